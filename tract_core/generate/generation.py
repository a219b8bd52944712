"""Who is asked what: keys, request seeds, resampling, statuses, and a store that loses nothing when killed.

Every CoT has a key (source, id, k, run_seed). Its request seed is a hash of stage and key, so neighbouring
seeds share no noise, and the order, the batch and the number of workers cannot change it. What is computed together
is fixed by the keys, too, so that a run that was killed and goes on ends with the same bytes (transformers engine).
"""

import hashlib
import itertools
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tract_core.base import tables, terminal
from tract_core.base.config import Engine as EngineSettings
from tract_core.base.config import Model, Sampling, Selfgen
from tract_core.base.errors import UserError, list_some
from tract_core.base.scale import ScoreScale
from tract_core.base.tables import Record
from tract_core.generate import free_decoding
from tract_core.generate.engine import Decoding, Engine, Request, Sample, engines_of, failure, open_engine
from tract_core.generate.served import served_name
from tract_core.generate.store import Store
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder
from tract_core.text.prompt_cache import PromptCache

logger = logging.getLogger(__name__)

FAILED = "%d request(s) failed; their rows have status `error` and no score, and a rerun of the stage asks again:\n%s"
IN_WORDS = {
    "ok": "ok",
    "truncated": "cut off at sampling.max_new_tokens",
    "no_delimiter": "ended without the score sentence",
    "empty": "empty",
    "error": "failed",
}
"""What a CoT of each status is."""


_PART, _ROUNDS = 8192, 32
"""What is sampled before it is handed on: so many draws, some hundred megabytes of prompts and CoTs. Many engines get
so many times what they draw at once, since all of them wait for the last draw of a part (bench/internet.py).
"""
_DRAWS = {"transformers": 2}
"""Raised where an engine draws other tokens from the same seeds: its stored samples count no more, others' do."""


@dataclass(frozen=True, kw_only=True)
class CotKey:
    """Which CoT: the k-th of an example in one run."""

    source: str
    id: str
    k: int
    run_seed: int


class Sampler(Protocol):
    """What a free judge is asked through: a model that runs here (Generator), or one behind an endpoint."""

    @property
    def scale(self) -> ScoreScale:
        """Y."""

    def sample(
        self, examples: Sequence[Record], keys: Sequence[CotKey], *, score: bool, attempt: int = 0
    ) -> list[Record]:
        """One record for each key, in the order of the keys: the columns of `cots`."""


class Generator:
    """Samples CoTs for keys from p_0 plus an adapter: engine, encoder and store together."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        model: Model,
        sampling: Sampling,
        engine: EngineSettings,
        seed_model: SeedModel,
        adapter: str | Path | None,
        stage: str,
        free: bool = False,
        work: str | Path = "work",
        served: str | None = None,
    ) -> None:
        """Check the adapter; the engine itself starts at the first sample that the store does not hold.

        `served` is the name under which servers have this judge, where that of base and adapter is not it.

        Raises:
            UserError: the adapter was altered or belongs to another base.
        """
        checked = None if adapter is None else models.check_adapter(adapter, seed_model)
        self.encoder, self.stage = encoder, stage
        adapter_hash = None if adapter is None else tables.manifest_hash(adapter)
        self.origin = {
            "base": seed_model.identity,
            "adapter": adapter_hash,
            "encoder": encoder.fingerprint(),
            "control": tables.content_hash(sorted(encoder.control_ids)),
            "model": model.resolved(),
            "sampling": sampling.resolved(),
            "engine": engine.name,
            "free": free,
            **({"draws": _DRAWS[engine.name]} if engine.name in _DRAWS else {}),
            **({} if model.dtype == "float32" else {"head": "float32"}),  # samples of a bfloat16 head count no more
        }
        self.store, self._prompts = Store(self.origin, work), PromptCache(encoder, work)
        decoding = Decoding(encoder=encoder, sampling=sampling, max_length=model.max_length, free=free)
        home, name = self.store.folder, served or served_name(seed_model.identity, adapter_hash)
        self._open: Callable[[], Engine] = lambda: open_engine(engine, model, decoding, seed_model, checked, home, name)
        self._engine: Engine | None = None
        self._batch_size, self.at_once = engine.batch_size, engine.batch_size * engines_of(engine)

    @property
    def scale(self) -> ScoreScale:
        return self.encoder.scale

    def whole_batches(self, number: int) -> int:
        """The number rounded to batches, at least one of them."""
        return max(1, number // self._batch_size) * self._batch_size

    def sample(
        self,
        examples: Sequence[Record],
        keys: Sequence[CotKey],
        *,
        score: bool,
        attempt: int = 0,
        given: Mapping[tuple[str, str], list[int]] | None = None,
    ) -> list[Record]:
        """One record for each key, in the order of the keys: the columns of `cots`, and the score.

        Args:
            examples: of the examples table, those among them that the keys name.
            keys: distinct keys.
            score: also read the score (`probs`, `label_mass`, `sampled_score`).
            attempt: 0 for the first sample of a key; each further attempt has a request seed of its own.
            given: for each example (source, id) the ids of a CoT that is read instead of sampling one.

        Raises:
            UserError: every request failed, the engine cannot go on, the disk is full, or another process is sampling
                the same. A request that fails alone has status `error` and no score.
        """
        asked = {(key.source, key.id) for key in keys}
        named = [example for example in examples if (example["source"], example["id"]) in asked]
        prompts = self._prompts.ids(named)
        hashes = {place: tables.content_hash(ids) for place, ids in prompts.items()}
        requests = dict[CotKey, Request]()
        for key in keys:
            place, seed = (key.source, key.id), request_seed(self.stage, key, attempt)
            cot_ids = None if given is None else given[place]
            name = tables.content_hash([hashes[place], seed, score, cot_ids])
            requests[key] = Request(key=name, prompt_ids=prompts[place], seed=seed, cot_ids=cot_ids)
        failed = self._answer(_fixed_batches(requests, self._batch_size), score=score)
        problems = [
            f"{key.source}, id {key.id}, k {key.k}: {failed[request.key]['finish_reason']}"
            for key, request in requests.items()
            if request.key in failed
        ]
        if problems and len(problems) == len(requests) and attempt == 0:
            raise UserError(f"all {len(problems)} requests failed:\n{list_some(problems, limit=5)}")
        if problems:
            logger.warning(FAILED, len(problems), list_some(problems))
        found = self.store.take([request.key for request in requests.values()]) | failed
        unread = {"probs": None, "label_mass": None, "sampled_score": None} if score else {}
        return [
            {
                "source": key.source,
                "id": key.id,
                "k": key.k,
                "run_seed": key.run_seed,
                "request_seed": request.seed,
                "attempt": attempt,
                **unread,
                **found[request.key],
            }
            for key, request in requests.items()
        ]

    def _answer(self, batches: Sequence[Sequence[Request]], *, score: bool) -> dict[str, dict[str, Any]]:
        """Sample what the store does not hold. Failed requests are returned, not kept, so that a rerun asks again."""
        failed = dict[str, dict[str, Any]]()
        wanted = [request.key for batch in self._missing(batches) for request in batch]
        if not wanted:
            return failed
        with self.store.held(wanted):
            missing = self._missing(batches)  # without what another process sampled in the meantime
            waiting = {request.key for batch in missing for request in batch}
            with terminal.bar(total=len(waiting), unit="CoT", desc="CoTs", guess_from=0.25) as progress:
                for samples in self._started().generate(missing, score=score) if missing else []:
                    for sample in samples:
                        if sample.key not in waiting:
                            raise RuntimeError(f"the engine answered {sample.key} twice, or was never asked for it")
                        waiting.remove(sample.key)
                    records = {sample.key: record_of(self.encoder, sample, score=score) for sample in samples}
                    failed |= {sample.key: records.pop(sample.key) for sample in samples if sample.failed}
                    self.store.add(records)
                    progress.update(len(samples))
            unanswered = [failure(key, "the engine did not answer") for key in waiting]
        return failed | {sample.key: record_of(self.encoder, sample, score=score) for sample in unanswered}

    def _missing(self, batches: Sequence[Sequence[Request]]) -> list[list[Request]]:
        left = [[request for request in batch if request.key not in self.store] for batch in batches]
        return [batch for batch in left if batch]

    def _started(self) -> Engine:
        if self._engine is None:
            self._engine = self._open()
        return self._engine


def record_of(encoder: Encoder, sample: Sample, *, score: bool) -> dict[str, Any]:
    """A sample as the columns of `cots`; `score`: with those of its score, null where it has none."""
    record: dict[str, Any] = {
        "cot": encoder.decode(sample.cot_ids),
        "cot_ids": sample.cot_ids,
        "finish_reason": sample.finish_reason,
        "num_tokens": sample.num_tokens,
    }
    record["status"] = status_of(sample.finish_reason, record["cot"])
    if score:
        record |= {"probs": None, "label_mass": None, "sampled_score": None}
    if sample.score is not None:
        sampled, paths = (sample.score.sampled_id, *sample.score.more_sampled), encoder.score_tokens.label_paths
        value = encoder.scale.values[paths.index(sampled)] if sampled in paths else None
        record |= {"probs": sample.score.probs, "label_mass": sum(sample.score.probs), "sampled_score": value}
    return record


def request_seed(stage: str, key: CotKey, attempt: int = 0) -> int:
    """63 bits of sha256 over stage, key and attempt."""
    name = json.dumps([stage, key.source, key.id, key.k, key.run_seed, attempt])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def status_of(finish_reason: str, cot: str) -> str:
    """`ok | truncated | no_delimiter | empty | error`, in the order in which they are looked for."""
    if finish_reason.startswith("error"):
        return "error"
    if not cot and finish_reason != "given":
        return "empty"
    return {"delimiter": "ok", "given": "ok", "length": "truncated", "end": "no_delimiter"}[finish_reason]


def self_generate(
    generator: Generator, examples: Sequence[Record], run_seed: int, settings: Selfgen
) -> Iterator[Record]:
    """`selfgen.num_samples` CoTs for each training example from p_s, bad ones sampled again as `on_bad_cot` says.

    Yields:
        One CoT for each example and k, in the order of the table `cots`; those with k = 0 do not depend on
        `num_samples`. CoTs that stayed bad keep their status, and stage 2 leaves them out unless the policy is `keep`.

    Raises:
        UserError: at the end, more than `selfgen.max_bad_share` of the CoTs stayed bad; the message shows examples.
    """
    bad, number = list[str](), settings.num_samples * len(examples)
    for part in _parts(generator, examples, settings.num_samples):
        for cot in _without_bad(generator, part, run_seed, settings):
            bad += [] if cot["status"] == "ok" else [f"{cot['id']} ({cot['status']}): {cot['cot'][:100]!r}"]
            yield cot
    if len(bad) > settings.max_bad_share * number:
        raise UserError(
            f"{len(bad)} of {number} self-generated CoTs are bad, more than selfgen.max_bad_share "
            f"({settings.max_bad_share}); train stage 1 longer or raise sampling.max_new_tokens:\n"
            f"{list_some(bad, limit=5)}"
        )


def _without_bad(generator: Generator, examples: Sequence[Record], run_seed: int, settings: Selfgen) -> list[Record]:
    """The CoTs of some examples, bad ones sampled again."""
    keys = _keys(examples, seeds=[run_seed], num_samples=settings.num_samples)
    cots = generator.sample(examples, keys, score=False)
    attempts = settings.max_resamples if settings.on_bad_cot == "resample" else 0
    for attempt in range(1, attempts + 1):
        bad = [index for index, cot in enumerate(cots) if cot["status"] != "ok"]
        if not bad:
            break
        logger.info("attempt %d: sampling %d bad CoTs again", attempt, len(bad))
        again = generator.sample(examples, [keys[index] for index in bad], score=False, attempt=attempt)
        for index, cot in zip(bad, again, strict=True):
            cots[index] = cot
    return cots


def infer(
    generator: Generator, examples: Iterable[Record], *, seeds: Sequence[int], num_samples: int
) -> Iterator[Record]:
    """K CoTs with their scores for each example and inference seed: the predictions table, in its order.

    A judge without CoT reads one score for each example and seed, whatever K. An iterator of examples must give them in
    the order of their table, and is read as it is needed.
    """
    cot = generator.encoder.style.cot
    samples = num_samples if cot else 1
    for part in _parts(generator, examples, samples * len(seeds)):
        given = None if cot else {(example["source"], example["id"]): list[int]() for example in part}
        keys = _keys(part, seeds=seeds, num_samples=samples)
        yield from with_gold(generator.sample(part, keys, score=True, given=given), part)


def part_of(at_once: int) -> int:
    """Draws of a part, where engines together draw so many at once."""
    return max(_PART, _ROUNDS * at_once)


def _parts(generator: Generator, examples: Iterable[Record], draws: int) -> Iterator[list[Record]]:
    """The examples in the order of a table, some thousand draws at a time: what is in memory at once.

    Each part is of whole batches, so that what is computed together does not depend on the parts.
    """
    if not isinstance(examples, Iterator):
        examples = iter(sorted(examples, key=lambda example: tables.key_of("examples", example)))
    size = generator.whole_batches(max(1, part_of(generator.at_once) // draws))
    while part := list(itertools.islice(examples, size)):
        yield part


def _keys(examples: Sequence[Record], *, seeds: Sequence[int], num_samples: int) -> list[CotKey]:
    """In the order of a table."""
    return [
        CotKey(source=example["source"], id=example["id"], k=k, run_seed=seed)
        for example in examples
        for k in range(num_samples)
        for seed in sorted(seeds)
    ]


def read_given(
    generator: Generator, examples: Sequence[Record], cots: Mapping[tuple[str, str], list[int]]
) -> list[Record]:
    """The scores after given CoTs, one for each example that has one: the predictions table."""
    chosen = [example for example in examples if (example["source"], example["id"]) in cots]
    keys = [CotKey(source=example["source"], id=example["id"], k=0, run_seed=0) for example in chosen]
    return with_gold(generator.sample(chosen, keys, score=True, given=cots), chosen)


def infer_freely(
    sampler: Sampler, examples: Sequence[Record], *, seeds: Sequence[int], num_samples: int, max_retries: int
) -> list[Record]:
    """K replies of a judge that decodes freely, each score read from its text: the predictions table.

    A reply without a readable score is sampled again, at most `max_retries` times, and then has no score. There
    are no probabilities to read where the sampler gives none, since where the score stands is the judge's own choice.
    """
    keys = [
        CotKey(source=example["source"], id=example["id"], k=k, run_seed=seed)
        for seed in seeds
        for k in range(num_samples)
        for example in examples
    ]
    replies = sampler.sample(examples, keys, score=False)
    scale = sampler.scale
    for attempt in range(1, max_retries + 1):
        unread = [n for n, reply in enumerate(replies) if free_decoding.parse(reply["cot"], scale.labels).label is None]
        again = sampler.sample(examples, [keys[n] for n in unread], score=False, attempt=attempt) if unread else []
        for n, reply in zip(unread, again, strict=True):
            replies[n] = reply
    return with_gold([_read_freely(reply, scale) for reply in replies], examples)


def _read_freely(reply: Record, scale: ScoreScale) -> Record:
    parsed = free_decoding.parse(reply["cot"], scale.labels)
    value = None if parsed.label is None else scale.values[scale.labels.index(parsed.label)]
    status = reply["status"] if value is None else "ok"
    unread = {"probs": None, "label_mass": None}
    return {**unread, **reply, "cot": parsed.feedback, "status": status, "sampled_score": value}


def ask_with(generator: Generator) -> Callable[[str], str]:
    """A model that decodes freely as a function from question to reply; a question asked again is sampled anew."""
    asked: Counter[str] = Counter()

    def ask(question: str) -> str:
        example = {"source": "question", "id": tables.content_hash(question), "prompt": question}
        key = CotKey(source=example["source"], id=example["id"], k=asked[question], run_seed=0)
        asked[question] += 1
        blank = {"instruction": "", "response": "", "reference": None, "criteria": "", "descriptions": ()}
        reply: str = generator.sample([{**blank, **example}], [key], score=False)[0]["cot"]
        return reply

    return ask


def with_gold(cots: Sequence[Record], examples: Sequence[Record]) -> list[Record]:
    """CoTs with the gold score of their example."""
    gold = {(example["source"], example["id"]): example["gold"] for example in examples}
    return [{**cot, "gold": gold[(cot["source"], cot["id"])]} for cot in cots]


class Tally:
    """Counts CoTs that pass by, for the stage's output: how many, how long, and in which state."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        """`encoder`: also counts texts that encode to other ids than were sampled (stage 2 trains on the former)."""
        self._encoder = encoder
        self._statuses, self._tokens, self._differing = Counter[str](), 0, 0

    def of(self, cots: Iterable[Record]) -> Iterator[Record]:
        """The CoTs, each counted as it is taken."""
        for cot in cots:
            self._statuses[cot["status"]] += 1
            self._tokens += cot["num_tokens"]
            if self._encoder is not None:
                self._differing += self._encoder.cot_ids(cot["cot"]) != list(cot["cot_ids"])
            yield cot

    def describe(self) -> str:
        """Without CoT, of the scores."""
        number = self._statuses.total()
        counts = [f"{self._statuses[name]} {words}" for name, words in IN_WORDS.items() if self._statuses[name]]
        what = f"CoTs of {self._tokens / number:.0f} tokens on average" if self._tokens else "scores read"
        changed = f"; the text of {self._differing / max(1, number):.1%} gives other token ids than were drawn"
        return f"{number} {what}: {', '.join(counts) or 'none'}{changed if self._encoder is not None else ''}"


def describe(cots: Iterable[Record]) -> str:
    """The same of CoTs that are there."""
    tally = Tally()
    for _ in tally.of(cots):
        pass
    return tally.describe()


def _fixed_batches(requests: Mapping[CotKey, Request], size: int) -> list[list[Request]]:
    """Batches that depend on the keys alone, not on their order nor on what is stored: the last bits depend on them.

    Each is of one run seed and one k, so that more samples or seeds leave the batches of the others as they are.
    """
    groups = defaultdict[tuple[int, int], list[Request]](list)
    for key in sorted(requests, key=lambda key: (key.run_seed, key.k, key.source, key.id)):
        groups[key.run_seed, key.k].append(requests[key])
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
