"""A judge behind an endpoint (row B.5): it writes freely, and each of its replies is asked for once.

Replies are kept in the store of drawn CoTs as they come, so that a run that was killed asks for the rest alone.
`generation.infer_freely` reads the scores. Protocol `expected` also takes the probabilities of all scores at the place
of the score in the reply, as far as they are among the server's most probable tokens there.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock
from typing import Any

from tract_core.base import tables, terminal
from tract_core.base.config import Endpoint, External, Prompt, Scale
from tract_core.base.errors import UserError, list_some
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.generate import free_decoding, generation
from tract_core.generate.endpoint import Client, RefusedError, Reply
from tract_core.generate.generation import CotKey
from tract_core.generate.store import Store
from tract_core.text import examples, prompts
from tract_core.text.prompts import PromptStyle

logger = logging.getLogger(__name__)

_ALTERNATIVES = 20
"""The most that servers give."""
_AROUND = b" \t\r\n:=*_\"'`()[]."
"""What a token may hold beside the label."""
_NO_PLACE = "warning: the score of %d of %d replies is no token of its own, so these have no probabilities"


class ChatJudge:
    """Replies for keys, as a Generator samples them; a failed request is not kept, so that a rerun asks again."""

    def __init__(
        self,
        external: External,
        prompt: Prompt,
        scale: Scale,
        *,
        expected: bool,
        at_once: int,
        work: str | Path = "work",
    ) -> None:
        """Connect to `external.endpoint`; `at_once`: requests under way at the same time.

        Raises:
            UserError: no key, or `expected` on a scale whose scores cannot be told apart by their first token.
        """
        endpoint = external.endpoint
        assert endpoint is not None
        self.scale = ScoreScale.create(scale.values, scale.labels)
        if expected:
            _require_labels_apart(self.scale.labels)
        self._style, self._system = _style(external, prompt, self.scale), external.system
        self._client, self._expected, self._at_once = Client(endpoint, "the external judge"), expected, at_once
        self.origin = {
            "adapter": None,
            "endpoint": _identity(endpoint),
            "style": dataclasses.asdict(self._style),
            "system": self._system,
            "expected": expected,
        }
        self.store, self._lock = Store(self.origin, work), Lock()

    def sample(
        self, examples: Sequence[Record], keys: Sequence[CotKey], *, score: bool = False, attempt: int = 0
    ) -> list[Record]:
        """One record for each key, in their order: the columns of `cots`, with `expected` also the probabilities.

        Args:
            examples: of the examples table, those among them that the keys name.
            keys: distinct keys.
            score: for Generator's sake; what a reply says of its score is all that there is.
            attempt: 0 for the first reply of a key; each further attempt is another reply.

        Raises:
            UserError: every request was refused, the endpoint cannot be used, or another process asks for the same. A
                request that is refused alone has status `error` and no score.
        """
        asked = {(key.source, key.id) for key in keys}
        messages = {place: self._messages(one) for one in examples if (place := (one["source"], one["id"])) in asked}
        names = {key: self._name(key, messages[key.source, key.id], attempt) for key in keys}
        failed = self._answer({name: messages[key.source, key.id] for key, name in names.items()})
        common = {"request_seed": 0, "attempt": attempt, "cot_ids": []}  # the server has no seed and no ids of ours
        common |= {"probs": None, "label_mass": None} if self._expected else {}
        kept = self.store.take(names.values())
        self._say(names, failed, kept, attempt)
        return [
            {**dataclasses.asdict(key), **common, **(failed.get(name) or kept[name])} for key, name in names.items()
        ]

    def _messages(self, example: Record) -> list[dict[str, str]]:
        user = {"role": "user", "content": prompts.render(examples.judge_input(example), self._style)}
        return [*([] if self._system is None else [{"role": "system", "content": self._system}]), user]

    def _name(self, key: CotKey, messages: Sequence[Mapping[str, str]], attempt: int) -> str:
        return tables.content_hash([list(messages), dataclasses.asdict(key), attempt])

    def _answer(self, asked: Mapping[str, list[dict[str, str]]]) -> dict[str, Record]:
        """Ask what the store does not hold -> what was refused; replies under way at an end are still kept."""
        wanted = [name for name in asked if name not in self.store]
        if not wanted:
            return {}
        with self.store.held(wanted), ThreadPoolExecutor(self._at_once) as pool:
            wanted = [name for name in wanted if name not in self.store]
            futures = {pool.submit(self._ask, name, asked[name]): name for name in wanted}
            try:
                return _refused(futures)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, name: str, messages: list[dict[str, str]]) -> None:
        reply = self._client.complete(messages, num_alternatives=_ALTERNATIVES if self._expected else 0)
        record = _record(reply.text, "length" if reply.is_cut else "end", reply.num_tokens)
        if self._expected:
            record |= self._probabilities(reply)
        with self._lock:
            self.store.add({name: record})

    def _probabilities(self, reply: Reply) -> dict[str, Any]:
        if reply.text and not reply.tokens:
            raise UserError(
                "the external judge's endpoint gives no probabilities of its tokens (logprobs), which protocol "
                "`expected` reads; list `b5_free` in place of `b5_expected` in matrix.scored, then `make rows`"
            )
        probs = label_probabilities(reply, self.scale.labels)
        return {"probs": probs, "label_mass": None if probs is None else sum(probs)}

    def _say(
        self, names: Mapping[CotKey, str], failed: Mapping[str, Record], kept: Mapping[str, Record], attempt: int
    ) -> None:
        """What was refused, and replies without probabilities.

        Raises:
            UserError: all of them were refused.
        """
        why = [
            f"{key.source}, id {key.id}, k {key.k}: {failed[name]['finish_reason']}"
            for key, name in names.items()
            if name in failed
        ]
        if why and len(why) == len(names) and attempt == 0:
            raise UserError(f"all {len(why)} requests failed:\n{list_some(why, limit=5)}")
        if why:
            logger.warning(generation.FAILED, len(why), list_some(why))
        read = [one for one in kept.values() if free_decoding.parse(one["cot"], self.scale.labels).label is not None]
        without = sum("probs" not in one for one in read) if self._expected else 0
        if without:
            logger.warning(_NO_PLACE, without, len(read))


def label_probabilities(reply: Reply, labels: Sequence[str]) -> list[float] | None:
    """The probability of each label at the place of the score in a reply, 0 where the server does not list it.

    Spellings of a label (with a space before it, in quotes) count together.

    Returns:
        In the order of the labels, not renormalised; None where the reply has no score, or it is no token of its own.
    """
    parsed, text = free_decoding.parse(reply.text, labels), reply.text.encode()
    # The tokens of a reasoning model begin earlier than its reply, and may end later.
    begin = b"".join(token.text for token in reply.tokens).rfind(text)
    if parsed.at is None or begin < 0:
        return None
    at = begin + len(reply.text[: parsed.at].encode())
    for token in reply.tokens:
        if at < len(token.text):
            break
        at -= len(token.text)
    if token.text.strip(_AROUND).decode(errors="replace") != parsed.label:
        return None
    bare = [(other.strip(_AROUND), p) for other, p in token.alternatives.items()]
    return [sum((p for other, p in bare if other == label.encode()), 0.0) for label in labels]


def _refused(futures: Mapping[Future[None], str]) -> dict[str, Record]:
    """Wait for all; other errors than a refusal are raised."""
    failed = {}
    with terminal.bar(total=len(futures), unit="reply", desc="replies") as progress:
        for future in as_completed(futures):
            try:
                future.result()
            except RefusedError as error:
                failed[futures[future]] = _record("", f"error: {error}", 0)
            progress.update()
    return failed


def _record(text: str, finish_reason: str, num_tokens: int) -> Record:
    status = generation.status_of(finish_reason, text)
    return {"cot": text, "finish_reason": finish_reason, "num_tokens": num_tokens, "status": status}


def _style(external: External, prompt: Prompt, scale: ScoreScale) -> PromptStyle:
    """The paper's format, which asks for [RESULT]; `brief` asks for no format, so the template stands in for it."""
    return PromptStyle(
        source="template" if prompt.source == "brief" else prompt.source,
        format_text="authors",
        use_reference=prompt.use_reference,
        delimiter=external.delimiter,
        labels=scale.labels,
    )


def _identity(endpoint: Endpoint) -> dict[str, Any]:
    """What determines its replies besides the question."""
    return {name: value for name, value in endpoint.resolved().items() if name != "key_variable"}


def _require_labels_apart(labels: Sequence[str]) -> None:
    begun = next(((a, b) for a in labels for b in labels if a != b and b.startswith(a)), None)
    if begun is not None:
        raise UserError(
            f"protocol `expected` reads the probability of a score from one token, but the score {begun[0]!r} begins "
            f"{begun[1]!r}, which a server may split: use `b5_free` in place of `b5_expected`, or other scale.labels"
        )
