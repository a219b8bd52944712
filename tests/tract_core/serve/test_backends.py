"""The child process of a server, with a stand-in for vLLM: a small server that starts a process of its own."""

import asyncio
import contextlib
import sys
import time

import psutil

from tract_core.serve.backends import VllmProcess

CHILD = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


class StandIn(VllmProcess):
    """Runs CHILD, or what ends at once."""

    script = CHILD

    def _command(self, port):
        return [sys.executable, "-c", self.script, str(port)]


def backend(tmp_path):
    return StandIn(tmp_path, name="x", dtype="float32", max_length=64, batch_size=2)


async def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def children():
    """The stand-in and what it started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "time.sleep(600)" in " ".join(child.cmdline()):  # stands in the commands of both
                found.append(child)
    return found


def gone(processes):
    return not any(map(runs, processes))


def runs(process):
    with contextlib.suppress(psutil.NoSuchProcess):  # it can go between the two questions
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_child_that_is_killed_is_started_again_and_all_of_it_ends_with_the_server(tmp_path):
    async def story():
        made = backend(tmp_path)
        task = asyncio.create_task(made.run())
        await until(lambda: made.ready and len(children()) == 2)
        first = children()
        first[0].kill()
        await until(lambda: made.restarts == 1)
        await until(lambda: gone(first))  # what the killed one had started, too
        await until(lambda: made.ready and len(children()) == 2)
        second = children()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: gone(second))
        return made

    assert not asyncio.run(story()).ready


def test_a_child_that_never_starts_is_tried_with_longer_pauses(tmp_path, caplog):
    async def story():
        made = backend(tmp_path)
        made.script = "raise SystemExit(3)"
        task = asyncio.create_task(made.run())
        await until(lambda: made.restarts == 3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return made

    assert not asyncio.run(story()).ready
    _, second, third = [record.created for record in caplog.records if "vLLM ended" in record.message]
    assert third - second > 0.9
