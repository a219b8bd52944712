"""A judge's folder -> its settings, its encoder and its weights: an adapter of the pipeline, or an exported judge."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from tract_core.base import tables
from tract_core.base.config import Prompt, Sampling, Scale, Score, TrainedModel
from tract_core.base.errors import UserError
from tract_core.base.section import Section
from tract_core.calibrate.calibration import Calibration
from tract_core.generate.served import served_name
from tract_core.model import models
from tract_core.model.models import SeedModel
from tract_core.text.encoding import Encoder

FILE, CARD = "judge.json", "README.md"
VERSION = 1


class ScoreTokens(Section):
    """How the score is read, for those who have none of this project's code."""

    delimiter_ids: list[int]
    """Tokens between CoT and score."""
    label_ids: list[int | list[int]]
    """One token for each value of the scale, or of each its tokens where some have several (base/label_trie.py); the
    score is the expectation under their probabilities."""
    stop_ids: list[int]
    """Tokens that end a CoT, as does the delimiter's text."""


class Example(Section):
    """One context and what this judge makes of it: whoever reads the judge otherwise can compare."""

    input_ids: list[int]
    probs: list[float]


class Fidelity(Section):
    """How far merging moves expected scores: mean and largest absolute difference over some contexts."""

    contexts: int
    mean: float
    largest: float


class Settings(Section):
    """judge.json: all that somebody must know to read this judge's scores."""

    version: int
    name: str
    """Stands for base and adapter; vLLM servers have the judge under it."""
    title: str
    row: str
    base: str
    """Identity of the seed model."""
    merged: bool
    """Whether the folder holds a whole model, or an adapter of `model.source`."""
    model: TrainedModel
    prompt: Prompt
    scale: Scale
    cot: bool
    """Whether it writes a CoT before its score."""
    sampling: Sampling
    score: Score
    tokens: ScoreTokens
    fingerprint: str
    """Of all that decides how an example becomes ids."""
    example: Example
    merged_against_adapter: Fidelity | None
    """null: not merged."""
    calibration: Calibration | None = None
    """What `tract calibrate` found; null, or not there: its scores are not calibrated."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of an exported judge whose files are as they were written.

        Raises:
            UserError: altered, or of another version.
        """
        tables.verify_manifest(folder, free=(CARD,))
        content = tables.read_json(folder / FILE)
        if content["version"] != VERSION:
            raise UserError(f"{folder / FILE}: is of version {content['version']}, but this is version {VERSION}")
        try:
            return cls.model_validate({**content, "model": TrainedModel.restored(content["model"])})
        except ValidationError as error:
            raise _of_another_version(folder / FILE, error) from None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A judge that was verified; its weights are not loaded yet."""

    name: str
    model: TrainedModel
    encoder: Encoder
    seed_model: SeedModel
    adapter: Path | None
    """None: the folder holds the whole model."""
    sampling: Sampling | None
    """None: an adapter of the pipeline, whose sampling stands in params.yaml."""
    score: Score | None
    calibration: Calibration | None
    """None: an adapter of the pipeline, or not calibrated."""


def opened(folder: str | Path, work: str | Path) -> Opened:
    """Verify a judge's folder and load its tokenizer.

    Raises:
        UserError: it is neither an adapter of this project nor an exported judge, was altered, or its base is not to
            be had.
    """
    folder = Path(folder)
    if not (folder / FILE).exists():
        return _adapter(folder, work)
    settings = Settings.read(folder)
    if settings.merged:
        seed_model = SeedModel(folder=folder, identity=f"judge:{_content_hash(folder)}")
        models.require_plain(folder)
    else:
        seed_model = models.resolve(settings.model, work)
    encoder = _encoder(seed_model, settings.prompt, settings.scale, cot=settings.cot)
    if encoder.fingerprint() != settings.fingerprint:
        raise UserError(
            f"{folder}: its tokenizer gives other tokens than when it was exported; judge with the versions of "
            "transformers and tokenizers that its README.md names"
        )
    return Opened(
        name=settings.name,
        model=settings.model,
        encoder=encoder,
        seed_model=seed_model,
        adapter=None if settings.merged else _as_trained(folder, Path(work)),
        sampling=settings.sampling,
        score=settings.score,
        calibration=settings.calibration,
    )


def write_calibration(folder: Path, calibration: Calibration, card: Callable[[str], str]) -> None:
    """Put it into judge.json, in place of an older one; the judge keeps its name, and its finished CoTs count on.

    The folder is replaced as a whole, so that a kill leaves the old one or the new one.

    Args:
        folder: of the judge.
        calibration: of its scores.
        card: from the text of its card, which people may have edited, to the new one.

    Raises:
        UserError: it is no exported judge, or was altered.
    """
    folder = folder.resolve()
    settings, manifest = Settings.read(folder), tables.read_manifest(folder)
    with tables.atomic_folder(folder) as draft:
        for name in manifest["files"].keys() - {CARD, FILE}:
            tables.make_folder((draft / name).parent)
            _link((folder / name).resolve(), draft / name)
        if (folder / CARD).exists():
            tables.write_text(draft / CARD, card((folder / CARD).read_text(encoding="utf-8")))
        tables.write_json(draft / FILE, settings.model_copy(update={"calibration": calibration}).resolved())
        tables.write_manifest(draft, {name: value for name, value in manifest.items() if name != "files"})


def _link(file: Path, target: Path) -> None:
    """The same file in a second place; weights are gigabytes. A copy where the disk knows no links."""
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copy(file, target)


def _content_hash(folder: Path) -> str:
    """Of all files but judge.json and the card, which a calibration changes, though not what the judge draws."""
    files = tables.read_manifest(folder)["files"]
    return tables.content_hash({name: file["sha256"] for name, file in files.items() if name not in (FILE, CARD)})


def _as_trained(folder: Path, work: Path) -> Path:
    """The adapter of an exported judge as training wrote it: what is loaded names no base, so that none is opened."""
    target = work / "adapters" / tables.manifest_hash(folder)[:12]
    with tables.atomic_folder(target) as draft:
        shutil.copy(folder / "adapter_model.safetensors", draft)
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tables.write_text(
            draft / "adapter_config.json", tables.to_json({**config, "base_model_name_or_path": None, "revision": None})
        )
        tables.write_manifest(draft, {"adapter": True, "origin": dict(tables.origin(folder))})
    return target


def _adapter(folder: Path, work: str | Path) -> Opened:
    origin = tables.origin(folder)
    if "objective" not in origin:
        raise UserError(f"{folder}: not an adapter folder made by this project (its manifest names no objective)")
    try:
        model = TrainedModel.restored(origin["model"])
        # Adapters of older versions name neither a date nor variables of the template.
        prompt = Prompt.model_validate({"date": None, "template_arguments": {}, **origin["prompt"]})
        scale = Scale.model_validate(origin["scale"])
    except ValidationError as error:
        raise _of_another_version(folder / "manifest.json", error) from None
    seed_model = models.resolve(model, work)
    return Opened(
        name=served_name(seed_model.identity, tables.manifest_hash(folder)),
        model=model,
        encoder=_encoder(seed_model, prompt, scale, cot=origin.get("cot", True)),  # older adapters all write a CoT
        seed_model=seed_model,
        adapter=folder,
        sampling=None,
        score=None,
        calibration=None,
    )


def _encoder(seed_model: SeedModel, prompt: Prompt, scale: Scale, *, cot: bool) -> Encoder:
    return Encoder.create(models.load_tokenizer(seed_model), prompt, scale, cot=cot)


def _of_another_version(file: Path, error: ValidationError) -> UserError:
    what: Any = error.errors()[0]["msg"]
    return UserError(
        f"{file}: its settings are not those of this version ({what}); judge with the version that trained it, or "
        "train again"
    )
