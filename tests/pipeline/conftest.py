"""The two tiny presets, each run once for all tests; tests that change something work on a copy."""

import pytest

from tests.pipeline.clone import fresh_clone


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The preset `tiny` (row 6 alone), run once; `first` names the stages that ran."""
    clone = fresh_clone(tmp_path_factory.mktemp("tiny"), "tiny")
    clone.first = clone.stages()
    return clone


@pytest.fixture(scope="session")
def untouched(tmp_path_factory):
    """The preset `tiny-paper` (every row) before anything has run."""
    return fresh_clone(tmp_path_factory.mktemp("untouched"), "tiny-paper")


@pytest.fixture(scope="session")
def paper(untouched, tmp_path_factory):
    """The preset `tiny-paper`, run once."""
    clone = untouched.copy(tmp_path_factory.mktemp("paper") / "clone")
    clone.first = clone.stages()
    return clone


@pytest.fixture
def clone(base, tmp_path):
    """A copy of the tiny run to change."""
    return base.copy(tmp_path / "clone")
