"""The server against its own OpenAPI description: schemathesis, in an environment of its own, asks what that allows."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv

import httpx
import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.judge.test_judging import PRESET, ROW, untrained_adapter
from tract_core.client import Client, JudgeError
from tract_core.judge import export

SCHEMATHESIS = "schemathesis==4.32.5"


@pytest.fixture(scope="module")
def schemathesis():
    home = ROOT / "work/schemathesis"
    made_from, program = home / "made_from.txt", home / "bin/schemathesis"
    if not made_from.exists() or made_from.read_text() != SCHEMATHESIS:
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home)
        pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "-q"]
        subprocess.run([*pip, "--disable-pip-version-check", SCHEMATHESIS], check=True, timeout=300)
        made_from.write_text(SCHEMATHESIS)
    return program


@pytest.fixture
def url(tiny_folder, tmp_path):
    adapter = untrained_adapter(tmp_path / "a4" / "seed_1", tiny_folder, cot=True)
    export.export(adapter, tmp_path / "judge", PRESET, merged=True, work=tmp_path / "work")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tract_core.cli", "serve", str(tmp_path / "judge"), "--port", str(port)]
    settings = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = subprocess.Popen([*command, "--engine", "transformers"], cwd=ROOT, env={**os.environ, **settings})
    found, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        assert process.poll() is None
        assert time.monotonic() < end
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{found}/health").status_code == 200:
                break
        time.sleep(0.3)
    yield found
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.mark.every
def test_every_answer_is_one_that_the_description_has(schemathesis, url, tmp_path):
    options = [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    options += ["--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"]
    options += ["--generation-database", "none"]
    done = subprocess.run(
        [str(schemathesis), "run", f"{url}/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counts = httpx.get(f"{url}/metrics").text  # so that not all of it was refused
    for status in (200, 400, 422):
        assert f'tract_requests_total{{path="/v1/tract/score",status="{status}"}}' in counts
    for path in ("/v1/chat/completions", "/v1/models", "/health", "/metrics"):
        assert f'path="{path}"' in counts


def test_the_client_and_the_server_understand_each_other(url):
    client = Client(url)
    given = [{**ROW, "id": f"r{i}", "response": f"Answer {i}.", "task": "t", "score": 3} for i in range(5)]
    found = client.score(given, num_samples=2)
    assert [one["index"] for one in found] == list(range(5))
    assert all(client.normalized(one) + 1 >= 0 for one in found)
    with pytest.raises(JudgeError, match=r"criteria") as error:
        client.score([*given, {**ROW, "id": "bad", "criteria": ""}])
    assert (error.value.status, error.value.row) == (400, 5)
