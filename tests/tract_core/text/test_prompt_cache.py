import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import SCALE, STYLE, X
from tests.tiny import bpe_tokenizer
from tract_core.text import prompt_cache, prompts
from tract_core.text.encoding import Encoder
from tract_core.text.examples import judge_input


@pytest.fixture(autouse=True)
def few_rows_count(monkeypatch):
    monkeypatch.setattr(prompt_cache, "_LEAST", 2)


class Counting(Encoder):
    """Notes which prompts it tokenised."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.tokenised = []

    def prompt_ids(self, x):
        self.tokenised.append(x.response)
        return super().prompt_ids(x)


def counting(style=STYLE, **tokenizer):
    return Counting(bpe_tokenizer(**tokenizer), style, SCALE)


def row(number, **changes):
    fields = {**vars(X), "descriptions": list(X.descriptions), "source": "train", "id": str(number)}
    return {**fields, "response": f"Response {number}. <|end|>", **changes}


ROWS = [row(number) for number in range(5)]


def files(work):
    return sorted((work / "tokens").rglob("*.parquet"))


def test_ids_are_those_of_the_encoder_from_memory_and_from_disk(encoder, tmp_path):
    expected = {("train", r["id"]): encoder.prompt_ids(judge_input(r)) for r in ROWS}
    assert prompt_cache.prompt_ids(encoder, ROWS, tmp_path) == expected
    assert prompt_cache.prompt_ids(encoder, ROWS, tmp_path) == expected


def test_each_prompt_is_tokenised_once_whichever_rows_hold_it(tmp_path):
    encoder = counting()
    prompt_cache.prompt_ids(encoder, ROWS[:3], tmp_path)
    moved = [row(number, source="other", id=f"x{number}") for number in range(4)]
    found = prompt_cache.prompt_ids(encoder, moved, tmp_path)
    assert encoder.tokenised == [f"Response {number}. <|end|>" for number in range(4)]
    assert len(found) == 4
    assert len(files(tmp_path)) == 2
    assert [pq.read_table(file).num_rows for file in files(tmp_path)] in ([1, 3], [3, 1])


def test_what_the_judge_reads_is_built_once_and_not_at_all_where_the_ids_are_on_disk(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(prompt_cache, "judge_input", lambda row: built.append(row["id"]) or judge_input(row))
    encoder = counting()
    learned_from = [row for row in ROWS for _ in range(3)]  # one pair for each of an example's CoTs
    first = prompt_cache.prompt_ids(encoder, learned_from, tmp_path)
    assert built == encoder_asked(encoder) == [row["id"] for row in ROWS]
    assert prompt_cache.prompt_ids(encoder, learned_from, tmp_path) == first
    assert len(built) == len(ROWS)


def encoder_asked(encoder):
    return [response.split()[1].strip(".") for response in encoder.tokenised]


def test_a_changed_field_is_another_prompt(tmp_path):
    encoder = counting()
    prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    prompt_cache.prompt_ids(encoder, [*ROWS[1:], row(0, criteria="Is it short?")], tmp_path)
    assert encoder.tokenised.count("Response 0. <|end|>") == 2
    assert len(encoder.tokenised) == 6


@pytest.mark.parametrize("change", ["style", "tokenizer", "code"])
def test_what_else_decides_the_ids_has_files_of_its_own(tmp_path, monkeypatch, change):
    prompt_cache.prompt_ids(counting(), ROWS, tmp_path)
    other = counting()
    if change == "style":
        other = counting(type(STYLE)(**{**vars(STYLE), "use_reference": False}))
    elif change == "tokenizer":
        other = counting(vocab_size=1000)
    else:
        copy = tmp_path / "prompts.py"
        copy.write_text(Path(prompts.__file__).read_text() + "# changed\n")
        monkeypatch.setattr(prompts, "__file__", str(copy))
    prompt_cache.prompt_ids(other, ROWS, tmp_path)
    assert len(other.tokenised) == len(ROWS)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:40] + b"x" + b[41:], lambda b: b""])
def test_a_damaged_file_is_named_removed_and_made_again(tmp_path, caplog, damage, record_property):
    encoder = counting()
    expected = prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert prompt_cache.prompt_ids(encoder, ROWS, tmp_path) == expected
    assert f"{file}: its bytes are not those that were written" in caplog.text
    assert file.read_bytes() == content
    assert len(encoder.tokenised) == 2 * len(ROWS)
    record_property("faults_injected", 1)


def test_a_draft_of_a_killed_process_is_not_read(tmp_path):
    encoder = counting()
    prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    (file,) = files(tmp_path)
    os.rename(file, file.with_name(f".{file.name}.draft-1"))
    prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    assert len(encoder.tokenised) == 2 * len(ROWS)


def test_of_several_ranks_the_first_alone_writes(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    found = prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    assert files(tmp_path) == []
    monkeypatch.setenv("RANK", "0")
    assert prompt_cache.prompt_ids(encoder, ROWS, tmp_path) == found
    assert len(files(tmp_path)) == 1


def test_a_few_rows_open_no_file(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_cache, "_LEAST", len(ROWS) + 1)
    prompt_cache.prompt_ids(encoder, ROWS, tmp_path)
    assert not (tmp_path / "tokens").exists()


def test_nothing_asked_is_nothing_found(encoder, tmp_path):
    assert prompt_cache.prompt_ids(encoder, [], tmp_path) == {}
