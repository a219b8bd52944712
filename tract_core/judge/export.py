"""A trained adapter leaves the pipeline: a folder that PEFT, transformers and vLLM open, with how to read it."""

import json
import logging
import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tract_core.base import places, tables
from tract_core.base.config import Params
from tract_core.base.errors import UserError
from tract_core.judge import card
from tract_core.judge.folder import CARD, FILE, VERSION, Example, Fidelity, Opened, ScoreTokens, Settings, opened
from tract_core.model import models
from tract_core.model.label_probs import TrieReader
from tract_core.model.models import Adapter, SeedModel
from tract_core.score import scoring
from tract_core.text import prompt_cache
from tract_core.text.encoding import Encoder
from tract_core.text.prompts import JudgeInput

logger = logging.getLogger(__name__)

_CONTEXTS = 16
"""Contexts on which merged weights and adapter are compared, two forward passes each."""
_PROBE = JudgeInput(
    instruction="Name a prime number.",
    response="Seven.",
    reference=None,
    criteria="Is the number prime?",
    descriptions=(),
)


def export(
    adapter: str | Path,
    out: str | Path,
    params: Params,
    *,
    merged: bool,
    base: str | None = None,
    licence: str | None = None,
    work: str | Path = "work",
) -> str:
    """Write the folder of one judge; in one line what was written, and how far merging moved its scores.

    Args:
        adapter: artifacts/adapters/ROW/seed_N.
        out: the new folder.
        params: sampling, score and name of this judge.
        merged: the whole model; else the adapter, which needs a base that others can have.
        base: in place of `model.source` in what PEFT reads: a hub id, or a folder on the machine that opens it.
        licence: for the model card, as in apache-2.0.
        work: where converted models lie.

    Raises:
        UserError: `out` exists, the adapter is not to be had, or its base has no hub id and none is given.
    """
    adapter, out = Path(adapter), Path(out)
    if out.exists():
        raise UserError(f"{out}: exists already; remove it, or name another folder")
    judge = opened(adapter, work)
    if judge.adapter is None:
        raise UserError(f"{adapter}: is an exported judge already; name an adapter of the pipeline")
    base = base or _hub_id(judge, merged=merged)
    contexts = _contexts(judge, adapter)
    with tables.atomic_folder(out) as draft:
        (_write_merged if merged else _write_adapter)(draft, judge, base)
        models.load_tokenizer(judge.seed_model).save_pretrained(draft)
        example, fidelity = _compared(judge, draft if merged else None, contexts)
        settings = _settings(judge, adapter, params, example, fidelity)
        tables.write_json(draft / FILE, settings.resolved())
        text = card.text(settings, adapter, tables.origin(adapter), level=params.statistics.level, licence=licence)
        tables.write_text(draft / CARD, text)
        tables.write_manifest(draft, {"origin": _origin(settings, adapter, merged=merged)})
        for file in draft.iterdir():
            file.chmod(0o644)  # safetensors writes files that their owner alone can read
    moved = "" if fidelity is None else f"; merging moves expected scores by {fidelity.largest:.2g} at most"
    return f"{settings.name}, {'merged' if merged else 'an adapter of ' + str(base)}{moved} -> {out}"


def push(folder: Path, name: str, *, public: bool) -> str:
    """Upload an exported judge to the hub, as a private repository unless `public`; its address.

    Raises:
        UserError: it is no exported judge, was altered, or the hub refuses it.
    """
    from huggingface_hub import HfApi

    Settings.read(folder)
    try:
        api = HfApi()
        api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="A judge trained by TRACT")
    except Exception as error:  # the hub client's errors have no common base
        raise UserError(f"{name}: the hub did not take it: {type(error).__name__}: {error}") from None
    return f"{api.endpoint}/{name}"


def _hub_id(judge: Opened, *, merged: bool) -> str | None:
    """What `model.source` is for others."""
    source, rounded = judge.model.source, judge.model.load_in_4bit
    if merged or not (rounded or source.startswith("pypi:") or Path(source).is_dir()):
        return source
    raise UserError(
        f"the base of this adapter is {source}{' rounded to 4 bits' if rounded else ''}, which nobody else can open by "
        "that name: export the whole model with --merged, or name a hub id with the same weights by --base OWNER/NAME"
    )


def _write_adapter(draft: Path, judge: Opened, base: str | None) -> None:
    assert judge.adapter is not None
    models.check_adapter(judge.adapter, judge.seed_model)
    shutil.copy(judge.adapter / "adapter_model.safetensors", draft)
    config = json.loads((judge.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    commit = judge.seed_model.identity.partition("@")[2] if judge.seed_model.identity.startswith("hub:") else None
    config |= {"base_model_name_or_path": base, "revision": commit if base == judge.model.source else None}
    tables.write_text(draft / "adapter_config.json", tables.to_json(config))


def _write_merged(draft: Path, judge: Opened, base: str | None) -> None:
    models.load_merged(judge.seed_model, _checked(judge), judge.model.dtype).save_pretrained(draft)


def _checked(judge: Opened) -> Adapter:
    assert judge.adapter is not None
    return models.check_adapter(judge.adapter, judge.seed_model)


def _settings(judge: Opened, adapter: Path, params: Params, example: Example, fidelity: Fidelity | None) -> Settings:
    origin, tokens = tables.origin(adapter), judge.encoder.score_tokens
    model = judge.model
    commit = judge.seed_model.identity.partition("@")[2]
    if judge.seed_model.identity.startswith("hub:"):
        model = model.model_copy(update={"revision": commit})
    return Settings.model_validate(
        {
            "version": VERSION,
            "name": judge.name,
            "title": params.name,
            "row": adapter.parent.name,
            "base": judge.seed_model.identity,
            "merged": fidelity is not None,
            "model": model,
            "prompt": {"date": None, "template_arguments": {}, **origin["prompt"]},
            "scale": {**origin["scale"], "labels": list(judge.encoder.scale.labels)},
            "cot": judge.encoder.style.cot,
            "sampling": params.sampling.resolved(),
            "score": params.score.resolved(),
            "tokens": ScoreTokens(
                delimiter_ids=list(tokens.delimiter_ids),
                label_ids=[one if isinstance(one, int) else list(one) for one in tokens.plain_ids],
                stop_ids=judge.encoder.stop_ids,
            ).resolved(),
            "fingerprint": judge.encoder.fingerprint(),
            "example": example.resolved(),
            "merged_against_adapter": None if fidelity is None else fidelity.resolved(),
        }
    )


def _origin(settings: Settings, adapter: Path, *, merged: bool) -> dict[str, Any]:
    """An exported adapter stays one that `check_adapter` takes."""
    return {"judge": settings.name, "base": settings.base} if merged else dict(tables.origin(adapter))


def _contexts(judge: Opened, adapter: Path) -> list[list[int]]:
    """What stands before a score: of judged benchmark rows where there are any, else of one made-up row."""
    encoder, seed = judge.encoder, adapter.name.removeprefix("seed_")
    folder = places.predictions(adapter.parent.name, int(seed)) if seed.isdecimal() else None
    if folder is None or not folder.exists() or not places.BENCHMARKS.exists():
        return [encoder.scoring_context(encoder.prompt_ids(_probe(encoder)), [])]
    examples = places.benchmark_examples()
    prompts = prompt_cache.prompt_ids(encoder, examples)
    rows = [row for row in tables.read(folder, "predictions") if row["status"] == "ok"]
    chosen = rows[:: max(1, len(rows) // _CONTEXTS)][:_CONTEXTS]  # rows of one task stand side by side
    return [encoder.scoring_context(prompts[row["source"], row["id"]], row["cot_ids"]) for row in chosen]


def _probe(encoder: Encoder) -> JudgeInput:
    texts = tuple(f"Of quality {label}." for label in encoder.scale.labels)
    return JudgeInput(**{**vars(_PROBE), "descriptions": texts})


def _compared(judge: Opened, merged: Path | None, contexts: Sequence[list[int]]) -> tuple[Example, Fidelity | None]:
    """An example with its probabilities, and of merged weights how far they move expected scores."""
    values = judge.encoder.scale.values
    with _peft(judge) as model:
        exact = [_probs(model, judge.encoder, ids) for ids in contexts]
    if merged is None:
        return Example(input_ids=contexts[0], probs=exact[0]), None
    whole = models.load_model(SeedModel(folder=merged, identity="merged"), judge.model.dtype)
    found = [_probs(whole, judge.encoder, ids) for ids in contexts]
    moved = np.abs(scoring.rail(found, values) - scoring.rail(exact, values)).tolist()
    fidelity = Fidelity(contexts=len(moved), mean=statistics.fmean(moved), largest=max(moved))
    return Example(input_ids=contexts[0], probs=found[0]), fidelity


@contextmanager
def _peft(judge: Opened) -> Iterator[Any]:
    """The adapter beside its base, not merged."""
    from peft import PeftModel

    base = models.load_model(judge.seed_model, judge.model.dtype)
    yield PeftModel.from_pretrained(base, str(_checked(judge).folder)).eval()


@torch.inference_mode()
def _probs(model: Any, encoder: Encoder, ids: Sequence[int]) -> list[float]:
    """The labels' probabilities under the softmax over the whole vocabulary, its logits in float32."""
    trie = encoder.score_tokens.trie
    with models.float32_head(model.get_base_model() if hasattr(model, "get_base_model") else model):
        contexts = [torch.tensor([[*ids, *node]]) for node in trie.nodes]
        logits = [model(context, logits_to_keep=1).logits[0, -1].double() for context in contexts]
    if trie.is_flat:
        probs: list[float] = logits[0].softmax(-1)[list(trie.choices[0])].tolist()
        return probs
    read: list[float] = TrieReader(trie)(torch.stack(logits)[None]).whole_BY[0].exp().tolist()
    return read
