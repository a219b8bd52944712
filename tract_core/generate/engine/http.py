"""The HTTP engine: CoTs and scores from vLLM servers that somebody runs, on this machine or on a whole fleet.

Any server of vLLM's `/v1/completions` is enough: it takes token ids, gives the ids that it drew, and with
`logprob_token_ids` the exact log-probabilities of the labels. Where the servers are is no part of a result, so it
stands in the environment and not in params.yaml:

    TRACT_SERVERS       their base URLs, divided by commas or spaces
    TRACT_SERVER_KEY    their API key, where they ask for one
    TRACT_SERVED_MODEL  under which name they have the model; without it the one of generate/served.py
"""

import asyncio
import logging
import os
import random
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from tract_core.base.errors import LibraryError, UserError, list_some
from tract_core.base.secrets import without_secrets
from tract_core.generate.engine import asking
from tract_core.generate.engine.base import Decoding, Request, Sample, failure, given

logger = logging.getLogger(__name__)

_TOGETHER = 2.0
"""Seconds for which finished samples are gathered before they are handed on, and so kept."""
_TRIES = 8
_LONGEST_PAUSE = 30.0
"""Seconds between two tries; all tries together last a minute and a half, in which a server can start again."""
_REST = 30.0
"""Seconds for which a server that could not answer is spared, where another one can be asked."""
_TIMEOUT = httpx.Timeout(600.0, connect=10.0)
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses after which the same question may be answered."""
_TOKEN = "token_id:"


class UnansweredError(Exception):
    """A request that no server answered: why, in the last server's words."""


def servers() -> list[str]:
    """The base URLs of TRACT_SERVERS, without `/v1`.

    Raises:
        UserError: none is named, or one is no URL.
    """
    named = re.split(r"[,\s]+", os.environ.get("TRACT_SERVERS", "").strip(", \n\t"))
    urls = [url.rstrip("/").removesuffix("/v1") for url in named if url]
    if not urls:
        raise UserError(
            "engine.name is `http`, but TRACT_SERVERS names no server; for example "
            "`export TRACT_SERVERS=http://127.0.0.1:8000` (several are divided by commas)"
        )
    if odd := [url for url in urls if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", url)]:
        raise UserError(f"TRACT_SERVERS: {without_secrets(odd[0])!r} is no URL such as http://127.0.0.1:8000")
    return urls


class Completions:
    """Draw a CoT, then read its score, over one or several vLLM servers of the same model."""

    def __init__(self, urls: Sequence[str], model: str, client: httpx.AsyncClient, *, tries: int = _TRIES) -> None:
        """Nothing is asked yet.

        Args:
            urls: base URLs without `/v1`.
            model: the name under which all of them have it.
            client: used in one event loop; its owner closes it.
            tries: how often a question is asked that no server answers.
        """
        self.model, self._client, self._tries = model, client, tries
        self._open = dict.fromkeys(urls, 0)
        """Questions that each server has not answered yet."""
        self._rests = dict.fromkeys(urls, 0.0)
        """Until when a server that could not answer is spared, where another one can be asked."""

    async def answer(self, decoding: Decoding, request: Request, *, score: bool) -> Sample:
        """One request; one that a server refuses, or on which it fails while it answers others, is answered too.

        Raises:
            UnansweredError: no server could be reached, or all were overloaded or failed, over all tries.
        """
        if refusal := decoding.refusal(request, score=score):
            return failure(request.key, refusal)
        try:
            url = None
            if request.cot_ids is not None:
                sample = given(request)
            else:
                answer, url = await self._ask(request.prompt_ids, asking.drawing(decoding, request), None)
                sample = asking.drawn(decoding, request, answer["token_ids"], at_length=answer["at_length"])
            if not score:
                return sample
            contexts, parameters = decoding.score_contexts(request, sample), asking.scoring(decoding, request)
            # The server that drew the CoT still holds its prompt in the prefix cache, and then what the root's context
            # adds to it, which all others begin with.
            answer, url = await self._ask(contexts[0], parameters[0], url)
            others = [self._ask(*one, url) for one in zip(contexts[1:], parameters[1:], strict=True)]
            answers = [answer, *(found for found, _ in await asyncio.gather(*others))]
            logprobs, drawn = [one["logprobs"] for one in answers], [one["token_ids"][0] for one in answers]
            return asking.scored(decoding, sample, logprobs, drawn)
        except _RefusedError as error:
            return failure(request.key, str(error))

    async def prove(self, decoding: Decoding) -> None:
        """Ask each server once for what this engine needs.

        Raises:
            UserError: a server does not have the model, is shorter than `model.max_length`, or gives no exact
                log-probabilities of the labels.
            UnansweredError: a server cannot be reached.
        """
        for url in self._open:
            await self._prove_model(url, decoding.max_length)
            found = [await self._probe(url, decoding, temperature) for temperature in (0.5, 2.0)]
            if found[0] != found[1]:
                raise UserError(
                    f"{url}: its log-probabilities depend on the temperature, so they are not the model's own; start "
                    "the server with --logprobs-mode raw_logprobs, which is vLLM's default"
                )

    async def _prove_model(self, url: str, max_length: int) -> None:
        listed = (await self._called("GET", f"{url}/v1/models", None)).get("data", [])
        lengths = {model.get("id"): model.get("max_model_len") for model in listed}
        if self.model not in lengths:
            raise UserError(
                f"{url}: has no model {self.model}, only {list_some(sorted(map(str, lengths)), limit=5)}\n"
                "Export the judge with --merged and start the server as its README.md says; or set TRACT_SERVED_MODEL "
                "to the name under which the server has the same weights"
            )
        longest = lengths[self.model]
        if longest is not None and longest < max_length:
            raise UserError(
                f"{url}: takes sequences of {longest} tokens, but model.max_length is {max_length}; "
                "start the server with a larger --max-model-len"
            )

    async def _probe(self, url: str, decoding: Decoding, temperature: float) -> dict[int, float]:
        """The log-probabilities of the labels' first tokens behind a delimiter without a prompt."""
        request = Request(key="probe", prompt_ids=decoding.encoder.stop_ids[:1], seed=1, cot_ids=[])
        context = decoding.encoder.scoring_context(request.prompt_ids, [])
        parameters = {**asking.scoring(decoding, request)[0], "temperature": temperature}
        try:
            answer, _ = await self._ask(context, parameters, url)
        except _RefusedError as error:
            raise UserError(f"{url}: {error}; this engine needs a server of vLLM 0.32 or later") from None
        return {token: answer["logprobs"][token] for token in decoding.trie.choices[0]}

    async def _ask(
        self, prompt_ids: Sequence[int], parameters: Mapping[str, Any], url: str | None
    ) -> tuple[dict[str, Any], str]:
        """The ids of one completion, whether it was cut, its labels' log-probabilities; and which server gave it."""
        labels = parameters.get("logprob_token_ids")
        body = {
            "model": self.model,
            "prompt": list(prompt_ids),
            "return_token_ids": True,
            **({} if labels is None else {"logprobs": 0, "return_tokens_as_token_ids": True}),
            **parameters,
        }
        problem, failed = "", False
        for attempt in range(self._tries):
            at = url if url is not None and attempt == 0 else self._least_busy()
            self._open[at] += 1
            try:
                answer = await self._called("POST", f"{at}/v1/completions", body)
                return _read(answer, labels), at
            except _PassingError as error:
                problem, failed = f"{at}: {error}", error.failed
                self._rests[at] = time.monotonic() + _REST
            finally:
                self._open[at] -= 1
            if attempt + 1 < self._tries:
                await asyncio.sleep(min(_LONGEST_PAUSE, 0.5 * 2**attempt) * (0.5 + random.random()))
        if failed and await self._answers(at, prompt_ids[:1]):
            raise _RefusedError(f"{problem} (tries: {self._tries}; it answers another question)")
        raise UnansweredError(problem)

    async def _answers(self, url: str, prompt_ids: Sequence[int]) -> bool:
        """Whether a server that failed on a question answers a short one: else it is the server that is broken."""
        body = {"model": self.model, "prompt": list(prompt_ids), "max_tokens": 1}
        try:
            await self._called("POST", f"{url}/v1/completions", body)
        except (_PassingError, _RefusedError):
            return False
        return True

    def _least_busy(self) -> str:
        now = time.monotonic()
        return min(self._open, key=lambda url: (self._rests[url] > now, self._open[url], url))

    async def _called(self, method: str, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        key = os.environ.get("TRACT_SERVER_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            response = await self._client.request(method, url, json=body, headers=headers)
        except httpx.TransportError as error:
            raise _PassingError(without_secrets(f"{type(error).__name__}: {error}")) from None
        if response.status_code in _PASSING:
            said = f"status {response.status_code}: {without_secrets(response.text[:300])}"
            raise _PassingError(said, failed=response.status_code == httpx.codes.INTERNAL_SERVER_ERROR)
        try:
            found = response.json()
        except ValueError:
            found = None
        if response.status_code != httpx.codes.OK or not isinstance(found, dict):
            raise _RefusedError(f"status {response.status_code}: {without_secrets(response.text[:300])}")
        return found


class HttpEngine:
    """An engine over servers; see Engine."""

    def __init__(self, decoding: Decoding, *, model: str, batch_size: int) -> None:
        """Look whether each server of TRACT_SERVERS has the model and gives what is needed.

        Args:
            decoding: encoder, sampling and length.
            model: the name to ask for, where TRACT_SERVED_MODEL gives none.
            batch_size: requests that each server has at once.

        Raises:
            UserError: a server cannot be reached, lacks the model, or cannot answer exactly.
        """
        self._urls = servers()
        self._model = os.environ.get("TRACT_SERVED_MODEL") or model
        self._decoding, self._at_once = decoding, batch_size * len(self._urls)
        with asyncio.Runner() as runner:
            try:
                runner.run(self._proved())
            except UnansweredError as error:
                raise UserError(f"a server of TRACT_SERVERS does not answer: {error}") from None
        if self._model != model:
            logger.warning("TRACT_SERVED_MODEL: %s is taken for %s; nobody compared the weights", self._model, model)

    async def _proved(self) -> None:
        async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
            try:
                await Completions(self._urls, self._model, client).prove(self._decoding)
            except (_PassingError, _RefusedError) as error:
                raise UnansweredError(f"{error}") from None

    def generate(self, batches: Sequence[Sequence[Request]], *, score: bool) -> Iterator[list[Sample]]:
        """See Engine. Similar prompts are asked for one after the other, as prefix caches like them."""
        waiting = deque(sorted((request for batch in batches for request in batch), key=lambda one: one.prompt_ids))
        finished = list[Sample]()
        limits = httpx.Limits(max_connections=self._at_once)
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits)
            completions = Completions(self._urls, self._model, client)

            async def work() -> None:
                while waiting:
                    finished.append(await completions.answer(self._decoding, waiting.popleft(), score=score))

            async def started() -> set[asyncio.Task[None]]:
                return {asyncio.create_task(work()) for _ in range(min(self._at_once, len(waiting)))}

            try:
                workers = runner.run(started())
                while workers:
                    done, workers = runner.run(_gathered(workers))
                    ready, finished[:] = list(finished), []
                    yield ready
                    for error in [worker.exception() for worker in done]:
                        if error is not None:
                            raise error
            except UnansweredError as error:
                raise LibraryError(
                    f"the servers of TRACT_SERVERS do not answer any more: {error}. Finished CoTs are kept, and a "
                    "rerun asks for the others"
                ) from None
            finally:
                runner.run(client.aclose())


async def _gathered(workers: set[asyncio.Task[None]]) -> tuple[set[asyncio.Task[None]], set[asyncio.Task[None]]]:
    return await asyncio.wait(workers, timeout=_TOGETHER, return_when=asyncio.FIRST_EXCEPTION)


class _PassingError(Exception):
    """A server that may answer later; `failed`: it was at work on the question, and could not."""

    def __init__(self, said: str, *, failed: bool = False) -> None:
        super().__init__(said)
        self.failed = failed


class _RefusedError(Exception):
    """A server's refusal, or an answer without what was asked for."""


def _read(answer: Mapping[str, Any], labels: Sequence[int] | None) -> dict[str, Any]:
    try:
        choice = answer["choices"][0]
        token_ids = choice["token_ids"]
        if not isinstance(token_ids, list) or choice["finish_reason"] not in ("stop", "length"):
            raise TypeError
        logprobs = {} if labels is None else choice["logprobs"]["top_logprobs"][0]
        read = {int(name.removeprefix(_TOKEN)): float(value) for name, value in logprobs.items()}
        return {
            "token_ids": [int(token) for token in token_ids],
            "at_length": choice["finish_reason"] == "length",
            "logprobs": {label: read[label] for label in labels or ()},
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise _RefusedError(
            "the answer lacks `token_ids` or the `top_logprobs` of `logprob_token_ids`, or did not end by itself"
        ) from None
