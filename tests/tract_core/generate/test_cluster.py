"""Ray as a stage meets it: on this machine alone, on a cluster of two nodes, and where it is missing or too small."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.pipeline.graph import ROOT
from tract_core.base import config
from tract_core.base.errors import LibraryError, UserError
from tract_core.generate.engine import cluster
from tract_core.model import loading

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def nodes(monkeypatch):
    """Ray's word for CPUs and GPUs of each node."""

    def set_to(cpus, gpus):
        monkeypatch.setattr(cluster, "_sizes", lambda kind: {"CPU": cpus, "GPU": gpus}[kind])

    return set_to


@pytest.mark.parametrize(
    ("cpus", "gpus", "replicas", "parallel", "expected"),
    [
        ([8], [0], 3, 1, ("CPU", 2)),
        ([2, 2], [0, 0], 3, 1, ("CPU", 1)),
        ([5, 3], [0, 0], 2, 1, ("CPU", 3)),
        ([8], [4], 4, 1, ("GPU", 1)),
        ([8, 8], [4, 4], 2, 4, ("GPU", 4)),
        ([8, 64], [2, 0], 2, 1, ("GPU", 1)),
    ],
)
def test_each_engine_has_its_gpus_or_an_even_share_of_the_cpus(nodes, cpus, gpus, replicas, parallel, expected):
    nodes(cpus, gpus)
    share = cluster.share(replicas, parallel)
    assert (share.kind, share.amount) == expected
    assert share.room() >= replicas


@pytest.mark.parametrize(
    ("cpus", "gpus", "replicas", "parallel", "words"),
    [
        (
            [2],
            [0],
            3,
            1,
            r"Ray has 1 node\(s\) with 2 CPUs and no GPU, which is room for 2 engine\(s\) of a CPU; lower ",
        ),
        ([8, 8], [4, 4], 3, 3, r"2 node\(s\) with 8 GPUs, which is room for 2 engine\(s\) of 3 GPU\(s\) .*add nodes"),
        ([64], [0], 2, 2, r"1 node\(s\) with 0 GPUs, which is room for 0 .*a larger cluster in RAY_ADDRESS"),
    ],
)
def test_more_engines_than_there_is_room_for_are_refused(nodes, cpus, gpus, replicas, parallel, words):
    nodes(cpus, gpus)
    with pytest.raises(UserError, match=f"engine.replicas is {replicas}, but {words}" if parallel == 1 else words):
        cluster.share(replicas, parallel)


@pytest.mark.parametrize(
    ("gpus", "replicas", "parallel", "address"),
    [(0, 1, 1, None), (0, 4, 1, None), (1, 1, 1, None), (4, 2, 2, None), (0, 2, 2, "head:6379")],
)
def test_engines_that_this_machine_can_have_are_not_refused(monkeypatch, gpus, replicas, parallel, address):
    monkeypatch.setattr(loading.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(loading, "find_spec", lambda name: "found")
    _set(monkeypatch, "RAY_ADDRESS", address)
    loading.require_engines(replicas, parallel)


@pytest.mark.parametrize(
    ("gpus", "replicas", "parallel", "address", "needed"),
    [(0, 1, 2, None, 2), (0, 1, 2, "head:6379", 2), (2, 1, 4, None, 4), (3, 2, 2, None, 4), (1, 2, 1, None, 2)],
)
def test_gpus_that_are_not_there_are_refused_before_a_training(monkeypatch, gpus, replicas, parallel, address, needed):
    monkeypatch.setattr(loading.torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(loading, "find_spec", lambda name: "found")
    _set(monkeypatch, "RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"are {needed} GPUs, but this machine shows {gpus} "):
        loading.require_engines(replicas, parallel)


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    loading.require_engines(1, 1)
    with pytest.raises(UserError, match=r"`pip install -r requirements-ray\.txt`"):
        loading.require_engines(2, 1)


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("http", "replicas", "TRACT_SERVERS names several servers instead"),
        ("http", "tensor_parallel", "only vLLM spreads a model over GPUs"),
        ("transformers", "tensor_parallel", "only vLLM spreads a model over GPUs"),
    ],
)
def test_what_an_engine_cannot_have_is_refused_when_params_are_read(name, key, words):
    with pytest.raises(ValueError, match=f"{key} must be 1 with `name: {name}`; {words}"):
        config.Engine(name=name, batch_size=4, memory="auto", **{key: 2})


def _set(monkeypatch, name, value):
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)


def environment_of(own):
    """That of a process whose Ray is not the one of this process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own}


class Driver:
    """`python -m tests.generation_child` with two engines that have begun, and all processes of its Ray."""

    def __init__(self, model, home, **environment):
        self.home = home
        # Without bars, which after a minute would write a line beside the words that are expected.
        environment = environment_of({"HOME": str(home), "TQDM_DISABLE": "1", **environment})
        command = [sys.executable, "-m", "tests.generation_child", "transformers", str(model), str(home), "400", "2"]
        with (home / "out").open("w") as out:
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=home)
        while not (stored := list(home.glob("work/generations/*/*.parquet"))) and self.process.poll() is None:
            time.sleep(0.05)
        assert stored, self.said()
        # Ray's two agents look after a dead Ray for another minute; they hold nothing.
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.family = [one for one in children if "Agent" not in words_of(one)]

    def said(self):
        return (self.home / "out").read_text()

    def ends(self):
        """The exit code, once all of its Ray has ended."""
        code = self.process.wait(timeout=60)
        _, alive = psutil.wait_procs(self.family, timeout=60)
        assert alive == []
        return code


@pytest.fixture
def driver(tiny_folder, tmp_path):
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as temporary:
        made = Driver(tiny_folder, tmp_path, RAY_TMPDIR=temporary)
        assert len(replicas_among(made.family)) == 2
        made.temporary = Path(temporary)
        yield made
        kill(made.family)


def words_of(process):
    """Its command line; nothing where it has just ended, as a process of Ray does that is not needed any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def replicas_among(processes):
    return [process for process in processes if "ray::Replica" in words_of(process)]


def kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def test_no_engine_outlives_a_driver_that_is_killed(driver):
    driver.process.kill()
    assert driver.ends() == -signal.SIGKILL


def test_a_signal_ends_the_stage_as_always_and_ray_with_it(driver):
    driver.process.terminate()
    assert driver.ends() == 128 + signal.SIGTERM
    assert driver.said() == "\ngeneration_child: stopped; what was finished is kept, and `dvc repro` goes on from it\n"
    assert list(driver.temporary.iterdir()) == []
    assert not (driver.home / ".ray").exists()


@pytest.fixture
def two_nodes(tmp_path):
    """A cluster on this machine whose nodes have one CPU each: its environment, and the process of each node."""
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
    short = tempfile.mkdtemp(dir="/tmp")  # for sockets, whose paths are limited
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", "--num-cpus=1"]
    head = [f"--port={port}", "--head", "--include-dashboard=false", f"--temp-dir={short}"]
    nodes = []
    for number, given in enumerate((head, [f"--address=127.0.0.1:{port}"])):
        said = tmp_path / f"node_{number}"
        command = [*start, "--min-worker-port=0", "--max-worker-port=0", *given]
        with said.open("w") as out:
            process = subprocess.Popen(command, env=environment_of(own), stdout=out, stderr=out)
        nodes.append(psutil.Process(process.pid))
        while "Ray runtime started" not in said.read_text():
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
    yield {**own, "RAY_ADDRESS": f"127.0.0.1:{port}"}, nodes
    kill([one for node in nodes for one in (*node.children(recursive=True), node)])
    shutil.rmtree(short, ignore_errors=True)


def test_engines_stand_on_both_nodes_of_a_cluster_and_end_with_the_driver(two_nodes, tiny_folder, tmp_path):
    environment, nodes = two_nodes
    driver = Driver(tiny_folder, tmp_path, **environment)
    engines = [replicas_among(node.children(recursive=True)) for node in nodes]
    assert list(map(len, engines)) == [1, 1]
    driver.process.kill()
    _, alive = psutil.wait_procs([one for found in engines for one in found], timeout=60)
    assert alive == []


def test_an_address_without_a_cluster_is_named(monkeypatch):
    pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(LibraryError, match=r"RAY_ADDRESS \(127\.0\.0\.1:1\): no connection to this cluster; start"):
        cluster.connect()
