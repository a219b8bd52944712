"""Storage for remotes: a folder, and real SSH, S3 and WebDAV servers on the loopback, where they are installed."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Storage:
    """Where `dvc remote add` points, and what each user sets in .dvc/config.local."""

    url: str
    access: dict[str, str] = field(default_factory=dict)


@contextmanager
def folder(home: Path):
    yield Storage(str(home / "storage"))


@contextmanager
def ssh(home: Path):
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    _needs("dvc_ssh", sshd, "openssh-server")
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / key], check=True)
    port = free_port()
    settings = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "client.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    (home / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when it runs as root
    with _served([sshd, "-D", "-e", "-f", home / "sshd_config"], port, home):
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        access = {"user": user, "keyfile": str(home / "client")}
        yield Storage(f"ssh://127.0.0.1:{port}{home / 'storage'}", access)


@contextmanager
def s3(home: Path):
    _needs("dvc_s3", find_spec("moto"), "moto[server]")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with _served([Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)], port, home):
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        access = {"endpointurl": address, "access_key_id": "x", "secret_access_key": "x", "region": "us-east-1"}
        yield Storage("s3://bucket/tract", access)


@contextmanager
def webdav(home: Path):
    _needs("dvc_webdav", find_spec("wsgidav"), "wsgidav")
    port, root = free_port(), home / "storage"
    root.mkdir()
    options = ["--no-config", "--host", "127.0.0.1", "--port", str(port), "--root", root, "--auth", "anonymous"]
    with _served([Path(sys.executable).parent / "wsgidav", *options], port, home):
        yield Storage(f"webdav://127.0.0.1:{port}/")


SERVERS = {"folder": folder, "ssh": ssh, "s3": s3, "webdav": webdav}


def _needs(plugin, server, name):
    if not find_spec(plugin):
        pytest.skip(f"{plugin} is missing: pip install -r requirements-remotes.txt")
    if not server:
        pytest.skip(f"{name} is not installed; .ci/run installs it")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def _served(command, port, home):
    """The server while the test runs; its output is in `home` and in the error."""
    log = home / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(server, port, log)
        yield
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(server, port, log):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"no server on port {port}:\n{log.read_text()}")
