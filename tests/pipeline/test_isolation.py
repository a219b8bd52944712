"""The whole tiny run without network and with secrets in the environment: it runs and leaves none of them anywhere."""

import base64
import json
import shutil
import subprocess
import zlib
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.clone import fresh_clone
from tests.tiny import HUB_COMMIT, fill_hub_cache
from tract_core.base import tables

pytestmark = [pytest.mark.pipeline, pytest.mark.faults, pytest.mark.timeout(900)]


def canary(name):
    """A value that stands in no file, as this one is searched too, with characters that a URL encodes."""
    return f"{name}/{tables.content_hash(name)[:20]}+1"


PASSWORD = canary("password")
ENVIRONMENT = {
    "HF_TOKEN": "hf_" + tables.content_hash("hub")[:30],
    "AWS_SECRET_ACCESS_KEY": canary("storage") + "=",
    "MY_API_KEY": canary("an unusual name"),
    "HTTPS_PROXY": f"http://somebody:{quote(PASSWORD, safe='')}@proxy.invalid:3128",
}
CANARIES = [ENVIRONMENT["HF_TOKEN"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], ENVIRONMENT["MY_API_KEY"], PASSWORD]
# In every Python process: a connection that leaves the machine is noted and fails.
NO_NETWORK = """
import os, sys

def watch(event, args):
    if event == "socket.connect" and args[0].family.name != "AF_UNIX":
        host = args[1][0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host not in ("None", "", "localhost", "::1") and not host.startswith("127."):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(host + "\\n")
        raise OSError(101, "Network is unreachable")

sys.addaudithook(watch)
"""


def without_network():
    """What takes the network from a command where this machine allows it, from processes of any language."""
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return []


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A finished `dvc repro` of a model of the hub that was fetched earlier, the kind that might ask for more."""
    home = tmp_path_factory.mktemp("alone")
    clone = fresh_clone(home, "tiny")
    (home / "site-packages").mkdir()
    (home / "site-packages/sitecustomize.py").write_text(NO_NETWORK)
    (home / "attempts").touch()
    del clone.env["HF_HUB_OFFLINE"]
    clone.env |= ENVIRONMENT | {
        "PYTHONPATH": str(home / "site-packages"),
        "ATTEMPTS": str(home / "attempts"),
        "HF_HOME": str(home / "hf"),
    }
    fill_hub_cache(home / "hf/hub", "owner/tiny", clone.folder / "work/models/tiny")
    shutil.rmtree(clone.folder / "work")
    clone.set("model.source", "owner/tiny")
    result = clone.run(*without_network(), "dvc", "repro")
    return SimpleNamespace(home=home, clone=clone, result=result)


def test_everything_runs_without_network(alone):
    assert alone.result.stdout.count("Running stage") == 10
    assert (alone.clone.folder / "artifacts/report/index.html").exists()
    asked = set((alone.home / "attempts").read_text().split())
    assert asked == {"proxy.invalid"}  # the hub, by the proxy of the environment


def test_the_commit_of_a_hub_model_is_stored(alone):
    bases = {tables.origin(alone.clone.folder / f"artifacts/adapters/{row}/seed_42")["base"] for row in ("a1", "tract")}
    bases |= {tables.read_json(alone.clone.folder / "artifacts/check/proof.json")["base"]}
    (base,) = bases
    assert base.startswith(f"hub:owner/tiny@{HUB_COMMIT}")
    assert f"revision None is commit {HUB_COMMIT}; pin that one" in alone.result.stderr


def forms(secret):
    """As it is, in a URL, and in base64 at any place of a longer text."""
    whole = secret.encode()
    found = {whole, quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()}
    for before, cut in enumerate((0, 2, 3)):
        length = (before + len(whole)) * 8 // 6
        found.add(base64.b64encode(b"x" * before + whole)[cut:length])
        found.add(base64.urlsafe_b64encode(b"x" * before + whole)[cut:length])
    return found


def contents(file):
    """The bytes of a file, and what stands compressed in it."""
    content = file.read_bytes()
    yield content
    if content.startswith(b"PAR1"):
        yield json.dumps(pq.read_table(file).to_pylist(), ensure_ascii=False).encode()
        yield repr(pq.read_schema(file).metadata).encode()
    if content.startswith((b"\x78\x01", b"\x78\x9c")):  # an object of git
        yield zlib.decompress(content)


def leaks(home):
    """Files below a folder that hold a canary in some form."""
    wanted = {form for canary in CANARIES for form in forms(canary)}
    files = [file for file in home.rglob("*") if file.is_file()]
    return [file for file in files if any(form in content for content in contents(file) for form in wanted)]


@pytest.mark.parametrize("canary", CANARIES)
def test_the_search_finds_a_secret_wherever_it_stands(tmp_path, canary):
    def write(name, content):
        (tmp_path / name).write_bytes(content)

    write("plain", f"x{canary}x".encode())
    write("url", quote(f"x {canary} x").encode())
    write("query", quote_plus(f"x {canary} x").encode())
    for before in range(3):
        write(f"base64_{before}", base64.b64encode(f"{'x' * before}{canary}:and more".encode()))
    write("git", zlib.compress(f"x{canary}".encode()))
    pq.write_table(pa.table({"text": ["x" * 1000, f"x{canary}x"]}), tmp_path / "a.parquet", compression="zstd")
    write("nothing", b"canary")
    assert {file.name for file in tmp_path.iterdir()} - {file.name for file in leaks(tmp_path)} == {"nothing"}


def test_no_secret_is_left_in_any_file_or_output(alone, record_property):
    (alone.home / "output").write_text(alone.result.stdout + alone.result.stderr)
    assert len([file for file in alone.clone.folder.rglob("*") if file.is_file()]) > 300
    assert leaks(alone.home) == []
    record_property("faults_injected", len(CANARIES))


# As libraries do: a log handler that holds stderr from its import on, and the header that a proxy is sent.
FAILING = """
import base64, logging, os, threading, warnings
import transformers.utils.logging
from urllib.parse import unquote

def evaluate(*_):
    user = unquote(os.environ["HTTPS_PROXY"].split("/")[2].split("@")[0])
    sent = {"Basic": base64.b64encode(user.encode()).decode(), "user": user}
    sent |= {name: value for name, value in os.environ.items() if name in NAMES}
    secrets = " and ".join(f"{name}: {sent[name]}" for name in sorted(sent))
    def fail():
        raise RuntimeError(f"401 for {secrets} in a thread")
    transformers.utils.logging.get_logger("transformers").warning("401 for %s in a log", secrets)
    logging.getLogger("other").warning("401 for %s in another log", secrets)
    warnings.warn(f"401 for {secrets} in a warning")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    raise RuntimeError(f"401 for {secrets} in the end")
"""


WHERE = ("a thread", "a log", "another log", "a warning", "the end")


def test_no_secret_is_left_by_a_failure(alone, tmp_path, record_property):
    clone = alone.clone.copy(tmp_path / "clone")
    clone.env = alone.clone.env
    file = clone.folder / "tract_core/score/scoring.py"
    file.write_text(file.read_text() + FAILING.replace("NAMES", repr(list(ENVIRONMENT))))
    result = clone.run("dvc", "repro", check=False)
    said = result.stdout + result.stderr
    log = (clone.folder / "work/logs/score@tract.log").read_text()
    for where in WHERE:
        output = said if where == "the end" else log
        assert f"and MY_API_KEY: [MY_API_KEY] and user: [HTTPS_PROXY] in {where}" in output
    assert "AWS_SECRET_ACCESS_KEY: [AWS_SECRET_ACCESS_KEY] and Basic: [HTTPS_PROXY]" in said
    assert "and HF_TOKEN: [HF_TOKEN] and HTTPS_PROXY: http://***@proxy.invalid:3128 and" in said
    assert "Traceback" in said
    (tmp_path / "output").write_text(said)
    assert leaks(tmp_path) == []
    record_property("faults_injected", len(WHERE) * len(CANARIES))
