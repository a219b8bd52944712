"""A client of `tract serve` that imports the standard library alone: this file can be copied into any project.

from tract_core.client import Client
judge = Client("http://127.0.0.1:8000", rubric={"criteria": "...", "descriptions": ["...", "...", "...", "...", "..."]})
for verdict in judge.score([{"instruction": "...", "response": "..."}], num_samples=4):
    print(verdict["status"], verdict["expected_score"], judge.normalized(verdict), verdict["cot"])
"""

import http.client
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urlsplit

FIELDS = ("id", "task", "instruction", "response", "reference", "criteria", "descriptions", "prompt")
"""What is sent of a row; other columns stay here."""
DEFAULT_URL = "http://127.0.0.1:8000"
_BUSY = (429, 502, 503, 504)  # the judge, or a proxy before it, may answer the same request later
_REFUSED = (400, 413, 422)  # it never will, but perhaps another part of its rows
_LONGEST_BACKOFF = 30.0  # seconds
_SCORES = ("expected_score", "expected_score_renormalized", "calibrated_score")
_NO_VERDICT = (*_SCORES, "probs", "label_mass", "sd_scale", "sd_cots", "cot")
_random = random.SystemRandom()  # the shared generator belongs to the training that asks

Row = Mapping[str, Any]
Verdict = dict[str, Any]


class JudgeError(Exception):
    """The judge gave no verdicts.

    `status`: of HTTP; None where no usable answer came. `message`: what is wrong. `row`: the index, from 0, of the row
    at fault among those given to `score`; None where it is no single row's.
    """

    def __init__(self, message: str, status: int | None = None, row: int | None = None) -> None:
        super().__init__(message, status, row)
        self.message, self.status, self.row = message, status, row

    def __str__(self) -> str:
        place = "" if self.row is None else f"rows[{self.row}]: "
        return place + self.message + (f" (HTTP {self.status})" if self.status else "")


class Client:
    """One served judge."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        rubric: Mapping[str, Any] | None = None,
        timeout: float = 600,
        retries: int = 5,
        *,
        rows_per_request: int = 32,
        in_flight: int = 4,
    ) -> None:
        """Nothing is asked yet.

        Args:
            base_url: where `tract serve` listens; default: the environment's TRACT_URL, or http://127.0.0.1:8000.
            api_key: default: the environment's TRACT_API_KEY.
            rubric: `criteria` and `descriptions` of the rows that have none of their own.
            timeout: seconds without a byte of the answer, after which the request is made again.
            retries: how often a request is made again that a busy judge refused or that got no answer.
            rows_per_request: at most; fewer where the judge says that a request is too large.
            in_flight: requests at a time.
        """
        self.base_url = (base_url or os.environ.get("TRACT_URL") or DEFAULT_URL).rstrip("/")
        self._parts, self._port = _address(self.base_url)
        self._api_key = api_key or os.environ.get("TRACT_API_KEY")
        self._rubric = None if rubric is None else _plain(rubric, ("criteria", "descriptions"))
        self._timeout, self._retries = timeout, retries
        self._rows_per_request, self._in_flight = rows_per_request, in_flight
        self.scale: dict[str, Any] | None = None
        """`values` and `labels`, lowest first; known from the first verdict on."""
        self.model: str | None = None
        """The judge's name, from the first verdict on."""

    def score(
        self,
        rows: Sequence[Row],
        *,
        num_samples: int = 1,
        seed: int = 0,
        temperature: float | None = None,
        skip_bad: bool = False,
    ) -> list[Verdict]:
        """Judge each row with K CoTs.

        Rows of the same content have the same verdict, and are judged once. A value that is None or NaN is missing.

        Args:
            rows: `instruction` and `response`; `criteria` and `descriptions`, or those of the client's rubric; optional
                `reference` and `id`.
            num_samples: K.
            seed: another seed samples other CoTs.
            temperature: of the CoTs, in place of the judge's own.
            skip_bad: a row that the judge refuses gets a verdict of status `skipped` that says why, without a score.

        Returns:
            For each row, in order, the verdict of docs/plug_in.md; `expected_score` is None where there is none.

        Raises:
            JudgeError: a row is refused; the judge is out of reach or busy for too long; it refuses the key.
        """
        options = {"num_samples": num_samples, "seed": seed, "temperature": temperature}
        sent = [_plain(row, FIELDS) for row in rows]
        keys = [_encoded(row, number) for number, row in enumerate(sent)]
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        numbers, size = sorted(first.values()), self._rows_per_request
        parts = [{n: sent[n] for n in numbers[i : i + size]} for i in range(0, len(numbers), size)]
        found = dict[int, Verdict]()
        pool = ThreadPoolExecutor(self._in_flight)
        try:
            for verdicts in pool.map(lambda part: self._judged(part, options, skip_bad=skip_bad), parts):
                found.update(verdicts)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [{**found[first[key]], "index": number} for number, key in enumerate(keys)]

    def normalized(self, verdict: Verdict) -> float | None:
        """The expected score with the scale's ends at 0 and 1; None where the verdict has none.

        Where the labels have a low mass, the expected score, and so this, can lie below its lower end.
        """
        score = verdict["expected_score"]
        if score is None:
            return None
        if self.scale is None:
            raise JudgeError("the scale is not known before this client's first verdict; call score first")
        low, high = min(self.scale["values"]), max(self.scale["values"])
        return float((score - low) / (high - low))

    def _judged(self, rows: dict[int, Row], options: dict[str, Any], *, skip_bad: bool) -> dict[int, Verdict]:
        """The verdicts of some rows by number; a refused request is made again in parts, down to the row at fault."""
        try:
            return self._asked(rows, options)
        except JudgeError as error:
            if error.status not in _REFUSED or not (skip_bad or (error.status == 413 and len(rows) > 1)):
                raise
            if len(rows) == 1:
                return {number: _skipped(row, error.message) for number, row in rows.items()}
            parts = _parts(list(rows), error.row)
        return {
            number: verdict
            for part in parts
            for number, verdict in self._judged({n: rows[n] for n in part}, options, skip_bad=skip_bad).items()
        }

    def _asked(self, rows: dict[int, Row], options: dict[str, Any]) -> dict[int, Verdict]:
        """One request's verdicts."""
        numbers = list(rows)
        rubric = {} if self._rubric is None else {"rubric": self._rubric}
        body = json.dumps({"rows": list(rows.values()), **rubric, **options}, default=_listed).encode()
        try:
            answer = self._post("/v1/tract/score", body)
        except JudgeError as error:
            if error.row is not None:
                error.row = numbers[error.row] if 0 <= error.row < len(numbers) else None
            raise
        try:
            verdicts = {numbers[verdict["index"]]: verdict for verdict in answer["data"]}
            model, scale = answer["model"], answer["scale"]
        except (KeyError, TypeError, IndexError):
            raise JudgeError(f"{self.base_url}: what answers there is no `tract serve`") from None
        if len(verdicts) != len(numbers) or len(answer["data"]) != len(numbers):
            raise JudgeError(
                f"{self.base_url}: {len(numbers)} rows were sent, {len(answer['data'])} verdicts came back"
            )
        self._check_same_judge(model, scale)
        return verdicts

    def _check_same_judge(self, model: str, scale: dict[str, Any]) -> None:
        if self.scale is not None and (self.model, self.scale) != (model, scale):
            raise JudgeError(
                f"{self.base_url}: the judge there was {self.model} and is {model} now; "
                "make a new Client, and score all rows again that shall be compared"
            )
        self.model, self.scale = model, scale

    def _post(self, path: str, body: bytes) -> Any:
        """The answer's content; a request that may succeed later is made again."""
        for attempt in range(self._retries + 1):
            wait = min(_LONGEST_BACKOFF, 0.5 * 2**attempt) * _random.uniform(0.5, 1)
            try:
                status, asked_wait, content = self._once(path, body)
            except (OSError, http.client.HTTPException) as error:
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                failure = JudgeError(f"{self.base_url}: no answer ({why}); is `tract serve` running there?")
            else:
                if status not in _BUSY:
                    return _content(status, content)
                failure = _refusal(status, content)
                wait = wait if asked_wait is None else asked_wait
            if attempt == self._retries or wait > self._timeout:
                break
            time.sleep(wait)
        raise failure

    def _once(self, path: str, body: bytes) -> tuple[int, float | None, bytes]:
        """Status, the wait that the judge asks for, and content. Redirects are errors: they would get the key."""
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", self._port, timeout=self._timeout)
        key = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        try:
            headers = {"Content-Type": "application/json", **key}
            connection.request("POST", parts.path + path, body, headers)
            answer = connection.getresponse()
            return answer.status, _seconds(answer.getheader("Retry-After")), answer.read()
        finally:
            connection.close()


def _address(url: str) -> tuple[SplitResult, int | None]:
    """Its parts, and the port, which urllib checks only where it is read."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts, parts.port
    except ValueError:
        pass
    raise JudgeError(f"{url}: is no address of a judge; write http://HOST:PORT (base_url, or TRACT_URL)")


def _plain(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    """The fields that a row has. An empty cell of a table is NaN there."""
    values = {name: row[name] for name in fields if name in row}
    return {name: v for name, v in values.items() if v is not None and not (isinstance(v, float) and v != v)}


def _encoded(row: Row, number: int) -> str:
    try:
        return json.dumps(row, sort_keys=True, default=_listed)
    except (TypeError, ValueError) as error:
        raise JudgeError(
            f"cannot be written as JSON ({error}); its fields are texts and lists of texts", row=number
        ) from None


def _listed(value: Any) -> Any:
    """The list or number that an array of numpy holds, as the cells of a Parquet table are."""
    try:
        return value.tolist()
    except AttributeError:
        raise TypeError(f"{type(value).__name__} is no text, number or list") from None


def _parts(numbers: list[int], bad: int | None) -> list[list[int]]:
    """The row at fault and the others, or halves where none is named."""
    half = len(numbers) // 2
    return [numbers[:half], numbers[half:]] if bad is None else [[bad], [n for n in numbers if n != bad]]


def _skipped(row: Row, reason: str) -> Verdict:
    """The verdict of a row that was not judged; it has the fields of all others."""
    nothing = dict.fromkeys(_NO_VERDICT)
    counts = {"cot_statuses": [], "num_ok": 0, "num_samples": 0}
    return {"index": 0, "id": row.get("id"), "status": "skipped", "reason": reason, **nothing, **counts}


def _seconds(header: str | None) -> float | None:
    """Of Retry-After; a date there counts as none."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        return None


def _content(status: int, content: bytes) -> Any:
    if status != 200:
        raise _refusal(status, content)
    try:
        return json.loads(content)
    except ValueError:
        raise JudgeError("the answer is no JSON; does base_url lead to `tract serve`?") from None


def _refusal(status: int, content: bytes) -> JudgeError:
    """The judge's own words, or what came in their place."""
    try:
        said = json.loads(content)["error"]
        return JudgeError(str(said["message"]), status, said.get("row"))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = content.decode(errors="replace").strip()[:500]
        return JudgeError(text or "the judge gave no reason", status)
