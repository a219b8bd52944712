"""What a stage prints, from a stub whose library writes to every door: Python's streams, descriptors, a child."""

import errno
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.pipeline.graph import ROOT

SECRET = "canary-of-test-process"
STAGE = """
import logging, os, subprocess, sys, warnings
from tract_core.base import process, terminal
from tract_core.base.errors import LibraryError, UserError

def noise(word):
    print(word, "python out")
    print(word, "python err", file=sys.stderr)
    logging.getLogger("vllm").warning("%s of a log", word)
    warnings.warn(f"{word} of a warning", FutureWarning)
    for number in (1, 2):
        os.write(number, f"{word} descriptor {number}\\n".encode())
    subprocess.run(f"echo {word} child out; echo {word} child err >&2", shell=True, check=True)

def main():
    noise(os.environ.get("MY_TOKEN", "noise"))
    logging.getLogger("tract_core.text.examples").warning("2 of 3 examples are left out")
    BODY
    return "all is well"

process.run(main)
"""
DOORS = ("python out", "python err", "of a log", "of a warning", *(f"descriptor {n}" for n in (1, 2)))
DOORS += ("child out", "child err")


@pytest.fixture
def stage(tmp_path):
    """Runs the stub: exit code, what stood on the terminal, and the log."""

    def run(body="pass", *, launch=(), arguments=(), **env):
        (tmp_path / "stub.py").write_text(STAGE.replace("BODY", body))
        command = [*launch, sys.executable, "stub.py", *arguments]
        env = {"PYTHONPATH": str(ROOT), **os.environ, **env}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        logs = {file.name: file.read_text() for file in tmp_path.glob("work/logs/*")}
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, logs=logs)

    return run


def test_the_terminal_has_our_words_and_the_log_has_all_others(stage):
    done = stage()
    assert (done.code, done.out) == (0, "stub: all is well\n")
    assert done.err == "2 of 3 examples are left out\n"
    (log,) = done.logs.values()
    assert [door for door in DOORS if f"noise {door}" not in log] == []
    assert list(stage(MY_TOKEN="later").logs) == ["stub.log"]
    assert "noise" not in stage(MY_TOKEN="later").logs["stub.log"]  # the last run alone


def test_the_stage_of_dvc_names_the_line_and_the_log_and_each_rank_has_its_own(stage):
    # The process that would have started it, by another value of DVC_STAGE, is this one.
    first = stage(DVC_STAGE="infer@tract-42")
    assert first.out == "infer@tract-42: all is well\n"
    second = stage(DVC_STAGE="infer@tract-42", RANK="1")
    assert (second.code, second.out) == (0, "")
    assert set(second.logs) == {"infer@tract-42.log", "infer@tract-42.rank_1.log"}


def test_an_unexpected_error_shows_its_traceback_and_where_the_log_is_and_how_it_ends(stage):
    done = stage("raise RuntimeError('lost a child')")
    assert (done.code, done.out) == (1, "")
    assert "Traceback" in done.err
    assert "RuntimeError: lost a child\nWhat libraries wrote is in work/logs/stub.log; its last lines:\n" in done.err
    assert "  noise child err\n" in done.err


def test_a_user_error_is_its_message_alone_and_one_of_a_library_has_its_last_lines(stage):
    done = stage("raise UserError('data: no such file')")
    assert (done.code, done.out) == (2, "")
    assert done.err == "2 of 3 examples are left out\n\nstub: data: no such file\n"
    done = stage("raise LibraryError('the engine died')")
    assert done.code == 2
    assert "\nstub: the engine died\nWhat libraries wrote is in work/logs/stub.log; its last lines:\n" in done.err
    assert "  noise child err\n" in done.err
    assert "Traceback" not in done.err


def test_escape_sequences_in_messages_errors_and_results_are_written_out(stage):
    ours = "logging.getLogger('tract_core.x').warning('id \\x1b[2Ja')"
    done = stage(f"{ours}; raise UserError('id \\x1b[2Jb')")
    assert r"id \x1b[2Ja" in done.err
    assert r"id \x1b[2Jb" in done.err
    assert "\x1b" not in done.err
    assert stage("return 'id \\x1b[2Jc'").out == "stub: id \\x1b[2Jc\n"
    assert stage("print('\\x1b[2Jd'); raise RuntimeError('x')").err.count("\x1b") == 0  # the log's last lines


def test_a_terminal_that_cannot_show_a_letter_fails_no_stage(stage):
    done = stage("return 'é'", PYTHONIOENCODING="ascii")
    assert (done.code, done.out) == (0, "stub: \\xe9\n")


def test_secrets_are_hidden_on_the_terminal_and_in_the_log(stage):
    done = stage("raise RuntimeError('401 for ' + os.environ['MY_TOKEN'])", MY_TOKEN=SECRET)
    (log,) = done.logs.values()
    assert "401 for [MY_TOKEN]" in done.err
    assert [door for door in DOORS if f"[MY_TOKEN] {door}" not in log] == []
    assert SECRET not in done.err + log


def test_a_crash_of_native_code_is_said(stage):
    done = stage("import ctypes; ctypes.string_at(0)")
    assert done.code < 0
    assert "Segmentation fault" in done.err


def test_wrong_arguments_and_help_are_said(stage):
    body = "process.arguments('row')"
    done = stage(body)
    assert done.code == 2
    assert "stub: the following arguments are required: --row\nusage: stub.py" in done.err
    done = stage(body, arguments=["--help"])
    assert (done.code, done.out[:14]) == (0, "usage: stub.py")


@pytest.mark.parametrize(
    "closing", ['"$@" >&-', '"$@" 2>&-', '"$@" <&- >&- 2>&-', '"$@" | true; exit ${PIPESTATUS[0]}']
)
def test_streams_that_are_closed_fail_no_stage(stage, closing):
    done = stage("noise('more')", launch=["bash", "-c", closing, "bash"])
    assert done.code == 0, done.err
    assert [door for door in DOORS if f"more {door}" not in done.logs["stub.log"]] == []


@pytest.mark.parametrize("closing", ['"$@" >/dev/full', '"$@" 2>/dev/full >&2', '"$@" | true; exit ${PIPESTATUS[0]}'])
def test_a_result_that_cannot_be_written_is_no_error_and_leaves_no_complaint(stage, closing):
    done = stage(launch=["bash", "-c", closing, "bash"])
    assert done.code == 0
    assert "Exception" not in done.err + done.out


@pytest.mark.parametrize("closing", ['"$@" >&-', '"$@" >/dev/full', '"$@" | true; exit ${PIPESTATUS[0]}'])
def test_show_too_needs_nobody_who_reads(tmp_path, closing):
    command = ["bash", "-c", closing, "bash", sys.executable, "-m", "pipeline.show"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "artifacts/a: it lies on a disk that is read-only; make it writable"),
        (errno.EACCES, "artifacts/a: this user may not read or write it"),
        (errno.EFBIG, "artifacts/a: a file may not become this large here; raise `ulimit -f`"),
        (errno.ENOTDIR, "artifacts/a: a part of its path is a file"),
    ],
)
def test_a_place_that_the_system_refuses_is_named_without_a_traceback(stage, number, message):
    done = stage(f"raise OSError({number}, os.strerror({number}), 'artifacts/a')")
    assert done.code == 2
    assert f"\nstub: {message}" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_file_where_a_folder_belongs_is_named(stage, folder):
    done = stage(f"open('file', 'w'); from tract_core.base import tables; tables.write('{folder}/t', 'cots', [], {{}})")
    assert done.code == 2
    assert "stub: file: a file lies where a folder belongs; move it away" in done.err


def test_an_error_of_the_system_that_nobody_foresaw_has_its_traceback(stage):
    done = stage(f"raise OSError({errno.ECONNRESET}, 'reset')")
    assert (done.code, "Traceback" in done.err) == (1, True)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
@pytest.mark.parametrize("value", ["abc", "", "-1", "1.5", "\x1b[2J"])
def test_a_rank_that_is_no_number_is_refused(stage, name, value):
    done = stage(**{name: value})
    assert (done.code, done.out) == (2, "")
    assert done.err == f"{name} in the environment is {value!r}, not a number; unset it or correct it\n"


def test_without_a_place_for_the_log_all_stays_on_the_terminal(stage, tmp_path):
    (tmp_path / "work").write_text("a file")
    done = stage()
    assert (done.code, done.out.splitlines()[-1]) == (0, "stub: all is well")
    assert [door for door in DOORS if f"noise {door}" not in done.out + done.err] == []
    assert done.err.count("2 of 3 examples are left out") == 1


def test_without_a_terminal_a_line_now_and_then_says_how_far_the_work_is(stage):
    done = stage("terminal.SECONDS_BETWEEN_LINES = 0; list(terminal.bar(range(3), desc='training'))")
    said = [line for line in done.err.splitlines() if line.startswith("  training")]
    assert said[0] == "  training: 0 of 3, 00:00 so far, ? to go"
    assert re.fullmatch(r"  training: 3 of 3, 00:\d\d so far, 00:00 to go", said[-1])
    assert "training: 100%" in done.logs["stub.log"]


def test_the_time_left_is_guessed_only_where_the_rate_so_far_is_a_guide(stage):
    """Of CoTs drawn side by side the first ends late, and the others soon after it."""
    bar = "terminal.bar(range(8), desc='CoTs', guess_from=0.25, miniters=1, mininterval=0)"
    done = stage(f"terminal.SECONDS_BETWEEN_LINES = 0; import time; [time.sleep(0.01) for _ in {bar}]")
    left = [re.search(r"(\d) of 8, .* so far, (\S+) to go", line) for line in done.err.splitlines() if "CoTs" in line]
    assert {"0": "?", "1": "?", "2": "00:00", "8": "00:00"}.items() <= {m[1]: m[2] for m in left}.items()


def test_a_bar_is_on_a_terminal_or_else_in_the_log(stage, tmp_path):
    bar = "list(terminal.bar(range(3), desc='training'))"
    done = stage(bar)
    assert "training" not in done.err
    assert "training: 100%" in done.logs["stub.log"]
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        command = ["sh", "-c", 'stty cols 80 rows 24 <&2; exec "$@"', "sh", sys.executable, "stub.py"]
        env = {"PYTHONPATH": str(ROOT), **os.environ}
        subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=terminal, check=True)
        shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "training: 100%" in shown
    assert "noise" not in shown
    assert "training" not in (tmp_path / "work/logs/stub.log").read_text()
