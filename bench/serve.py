"""A served judge against the same judge offline: throughput, lost rows, equal answers.

    python -m bench.serve FOLDER [--rows 200] [--clients 16] [--rounds 3]

FOLDER is a judge that `tract export --merged` wrote. Both engines are loaded and warm, and take turns on the rows of
data/support with another seed each time, so that nothing is in a store. The clients send their rows one by one, where
no more sequences are decoded together than there are clients, and each its share in one request.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

from bench import measuring

_FIELDS = ("id", "instruction", "response", "criteria", "descriptions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asked = _rows(given.rows)
    with (
        tempfile.TemporaryDirectory() as home,
        _offline(given.folder, home) as offline,
        _served(given.folder, home) as url,
    ):
        shares = (1, -(-given.rows // given.clients))
        rounds = [
            _round(offline, url, asked, given.clients, share, seed=seed * len(shares) + place)
            for seed in range(given.rounds + 1)
            for place, share in enumerate(shares)
        ][len(shares) :]
    measuring.write("serve", "A served judge against the same judge offline", rounds, [_note(given, rounds)], {})


def _rows(number: int) -> list[dict[str, Any]]:
    lines = Path("data/support/train.jsonl").read_text(encoding="utf-8").splitlines()[:number]
    return [{name: value for name, value in json.loads(line).items() if name in _FIELDS} for line in lines]


def _round(
    offline: Connection, url: str, asked: list[dict[str, Any]], clients: int, share: int, *, seed: int
) -> dict[str, Any]:
    offline.send((asked, seed))
    seconds, expected = offline.recv()

    def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        response = http.post(f"{url}/v1/tract/score", json={"rows": rows, "seed": seed})
        response.raise_for_status()
        found: list[dict[str, Any]] = response.json()["data"]
        return found

    requests = [asked[start : start + share] for start in range(0, len(asked), share)]
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads, httpx.Client(timeout=600) as http:
        found = [verdict for verdicts in threads.map(judged, requests) for verdict in verdicts]
    served = time.perf_counter() - began
    same = [(a, b) for a, b in zip(found, expected, strict=True) if a["cot"] == b["cot"]]
    furthest = max(abs(p - q) for a, b in same for p, q in zip(a["probs"], b["probs"], strict=True))
    return {
        "rows a request": share,
        "offline, rows/s": f"{len(asked) / seconds:.2f}",
        "served, rows/s": f"{len(asked) / served:.2f}",
        "served / offline": f"{seconds / served:.3f}",
        "rows lost": sum(
            a["id"] != b["id"] or a["expected_score"] is None for a, b in zip(found, expected, strict=True)
        ),
        "equal CoTs": f"{len(same)} of {len(asked)}",
        "largest difference of a probability behind equal CoTs": f"{furthest:.1e}",
    }


def _note(given: argparse.Namespace, rounds: list[dict[str, Any]]) -> str:
    shares = sorted({one["rows a request"] for one in rounds})
    ratios = {
        share: statistics.median(float(one["served / offline"]) for one in rounds if one["rows a request"] == share)
        for share in shares
    }
    medians = ", ".join(f"{ratio:.2f} with {share} a request" for share, ratio in ratios.items())
    return (
        f"{given.rows} rows of data/support, {given.clients} clients, a round before these to warm up; medians of "
        f"served / offline: {medians}. The offline judge decodes 32 sequences together; clients with one row a request "
        f"keep {given.clients} going. CoTs differ where two tokens were nearly equally probable: what is computed "
        "together differs, and so do the last bits."
    )


@contextlib.contextmanager
def _offline(folder: Path, home: str) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_judge, args=(folder, home, theirs), daemon=True)
    child.start()
    try:
        yield ours
    finally:
        child.terminate()
        child.join()


def _judge(folder: Path, home: str, asked: Connection) -> None:
    from tract_core.judge.judging import Judge

    judge = Judge(folder, work=Path(home) / "offline")
    while True:
        rows, seed = asked.recv()
        began = time.perf_counter()
        verdicts = judge.score(rows, seed=seed)
        asked.send((time.perf_counter() - began, verdicts))


@contextlib.contextmanager
def _served(folder: Path, home: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tract_core.cli", "serve", str(folder), "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "XDG_CACHE_HOME": home})
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health").status_code == httpx.codes.OK:
                    break
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
