"""`tract serve` with vLLM on a tiny model, as a process of its own: equal to the offline judge, and hard to kill."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tests.tract_core.serve.test_backends import gone
from tract_core.judge import export

pytestmark = [pytest.mark.every, pytest.mark.timeout(600)]

OFFLINE = """
import json, sys
from tract_core.base.config import Engine
from tract_core.judge.judging import Judge
folder, rows, out, work = sys.argv[1:]
engine = Engine(name="vllm", batch_size=8, memory="auto")
verdicts = Judge(folder, engine=engine, work=work).score(json.load(open(rows)), num_samples=2, seed=5)
json.dump(verdicts, open(out, "w"))
"""


def rows(n):
    return [{**ROW, "id": f"r{i}", "response": f"Answer {i}."} for i in range(n)]


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("served")
    adapter = untrained_adapter(home / "a4" / "seed_1", tiny_folder, cot=True)
    model = PRESET.model.model_copy(update={"max_length": 768})
    manifest = json.loads((adapter / "manifest.json").read_text())["origin"]
    assert manifest["model"]["max_length"] >= model.max_length
    export.export(adapter, home / "judge", PRESET, merged=True, work=home / "work")
    return home / "judge"


@contextlib.contextmanager
def served(folder, home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tract_core.cli", "serve", str(folder), "--port", str(port), "--batch-size", "8"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(home)})
    url = f"http://127.0.0.1:{port}"
    try:
        healthy(url, process)
        yield url, process
    finally:
        process.kill()


def healthy(url, process, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.5)
    raise AssertionError("the server does not start")


def engines(process):
    """vLLM's server and what it started."""
    return psutil.Process(process.pid).children(recursive=True)


def test_a_served_judge_equals_the_offline_one_and_outlives_its_engine_which_does_not_outlive_it(folder, tmp_path):
    asked = rows(24)
    (tmp_path / "rows.json").write_text(json.dumps(asked))
    files = [folder, tmp_path / "rows.json", tmp_path / "out.json", tmp_path / "work"]
    subprocess.run([sys.executable, "-c", OFFLINE, *map(str, files)], cwd=ROOT, check=True, timeout=300)
    expected = {one["id"]: one for one in json.loads((tmp_path / "out.json").read_text())}
    with served(folder, tmp_path / "home") as (url, process):

        def judged(row):
            body = {"rows": [row], "num_samples": 2, "seed": 5}
            return httpx.post(f"{url}/v1/tract/score", json=body, timeout=300).json()["data"][0]

        with ThreadPoolExecutor(16) as clients:
            found = list(clients.map(judged, asked))
        assert [one["id"] for one in found] == [row["id"] for row in asked]
        for one in found:
            assert one["cot"] == expected[one["id"]]["cot"]
            assert one["probs"] == pytest.approx(expected[one["id"]]["probs"], abs=1e-4)

        core = max(engines(process), key=lambda child: child.memory_info().rss)
        with ThreadPoolExecutor(1) as client:
            whole = {"rows": rows(400), "num_samples": 8}
            waiting = client.submit(httpx.post, f"{url}/v1/tract/score", json=whole, timeout=300)
            time.sleep(1)
            core.send_signal(signal.SIGKILL)
            broken = waiting.result()
        assert (broken.status_code, broken.json()["error"]["type"]) == (503, "unavailable")
        healthy(url, process)
        assert judged(asked[0])["probs"] == pytest.approx(found[0]["probs"], abs=1e-4)
        assert "tract_engine_restarts 1.0" in httpx.get(f"{url}/metrics").text
        left = engines(process)
        assert left
        process.kill()
        process.wait()
    end = time.monotonic() + 60
    while not gone(left):
        assert time.monotonic() < end, "vLLM outlived its server"
        time.sleep(0.5)
