"""A SLURM cluster of two nodes on the loopback, as root in a folder of its own, where slurm is installed."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.pipeline.servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NODES = ("a", "b")
# Each node has the machine's cores and a GPU in name: a terminal that nobody opens.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={home}
SlurmdSpoolDir={home}/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
ReturnToService=2
MailProg=/bin/true
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} Gres=gpu:1\n"


def queue(home: Path):
    """A real cluster where one can be started, else a stand-in."""
    return cluster(home) if all(_programs().values()) and not os.geteuid() else stub(home)


def _programs() -> dict[str, str | None]:
    path = f"{os.environ['PATH']}:/usr/sbin"
    return {name: shutil.which(name, path=path) for name in PROGRAMS}


@contextmanager
def cluster(home: Path):
    """The environment in which `sbatch` and the like reach it; skips the test where it cannot be started."""
    found = _programs()
    if missing := [name for name, place in found.items() if not place]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install munge slurmctld slurmd slurm-client")
    if os.geteuid():
        pytest.skip("slurmd starts jobs as root alone")
    _write_settings(home)
    env = {"SLURM_CONF": str(home / "slurm.conf")}
    key, socket = home / "munge.key", home / "munge.socket"
    files = [f"--{name}-file={home}/munge.{name}" for name in ("pid", "log", "seed")]
    with ExitStack() as running:
        munged = [found["munged"], "--foreground", "--force", f"--key-file={key}", f"--socket={socket}", *files]
        running.enter_context(_daemon(munged, env, home))
        _wait_for(socket.exists, home)
        running.enter_context(_daemon([found["slurmctld"], "-D", "-c"], env, home))
        for name in NODES:
            running.enter_context(_daemon([found["slurmd"], "-D", "-N", name], env, home))
        _wait_for(lambda: _states(env) == ["idle"] * len(NODES), home)
        yield env


def _write_settings(home: Path) -> None:
    host = os.uname().nodename.partition(".")[0]
    nodes = [NODE.format(name=name, host=host, port=free_port(), cores=os.cpu_count()) for name in NODES]
    (home / "slurm.conf").write_text("".join([CONF.format(home=home, host=host, port=free_port()), *nodes]))
    (home / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu File=/dev/null\n" for name in NODES))
    (home / "munge.key").touch(mode=0o600)
    (home / "munge.key").write_bytes(secrets.token_bytes(1024))
    home.chmod(0o755)  # munged wants a folder that nobody else can write to


@contextmanager
def _daemon(command: list, env: dict[str, str], home: Path):
    with (home / "daemons.log").open("a") as log:
        process = subprocess.Popen(command, env={**os.environ, **env}, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _states(env: dict[str, str]) -> list[str]:
    command = ["sinfo", "--noheader", "--Node", "--format", "%T"]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True).stdout.split()


def _wait_for(condition, home: Path) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError((home / "daemons.log").read_text()[-3000:])


# What the scripts of clusters/ and the tests ask of SLURM, where it is not installed: jobs begin at once.
STUBS = {
    "sbatch": """
for word; do
  case $word in
    --array=1-*) last=${word#--array=1-} ;;
    --export=ALL,*) export "${word#--export=ALL,}" ;;
    --*) echo "the stub does not know $word" >&2; exit 1 ;;
  esac
done
cp "$word" "$STUB/script"
for number in $(seq "$last"); do run-job "$number" & done
echo "Submitted batch job 7"
""",
    "run-job": """
export SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$1
echo $$ >"$STUB/7_$1"
exec bash "$STUB/script" >>"work/slurm/7_$1.log" 2>&1
""",
    "squeue": "echo RUNNING",
    "scancel": 'kill -TERM "$(cat "$STUB/${!#}")"',
    "scontrol": """
[ "$1" = requeue ] || exit 0
cd "$PWD/../../.."
(tail --pid="$(cat "$STUB/$2")" -f /dev/null; run-job "${2#7_}") >/dev/null 2>&1 &
""",
}


@contextmanager
def stub(home: Path):
    """The same for scripts in the place of SLURM."""
    for name, script in STUBS.items():
        (home / name).write_text(f"#!/usr/bin/env bash\nset -eu\n{script}")
        (home / name).chmod(0o755)
    yield {"PATH": f"{home}:{os.environ['PATH']}", "STUB": str(home)}
