"""The tools of bench/peers must do the same task, or their times compare nothing; run.differences() proves it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench import train_step
from bench.peers import ours_sft, released_sft, run
from tract_core.text.encoding import Encoded


def rows():
    """Three rows of different lengths, whose ids the tiny model knows."""
    draw = torch.Generator().manual_seed(0)
    examples = []
    for number, (prompt, completion) in enumerate([(6, 5), (3, 9), (8, 3)]):
        ids = torch.randint(100, 1000, (prompt + completion,), generator=draw).tolist()
        ids[-2] = train_step.LABELS[number]
        place = {"num_prompt": prompt, "score_position": len(ids) - 2, "gold": number + 1.0}
        examples.append(Encoded(id=str(number), input_ids=ids, **place))
    return examples


@pytest.fixture(scope="module")
def outs(tmp_path_factory, tiny_folder):
    """What each of the tools in our environment leaves behind after two steps."""
    home = tmp_path_factory.mktemp("peers")
    run.write_rows(home / "rows.json", rows())
    tools = {"cot_raft": ours_sft, "ce": ours_sft, "keep": released_sft, "recompute": released_sft}
    for name, tool in tools.items():
        (home / name).mkdir()
        tool.main(name, str(tiny_folder), str(home / "rows.json"), "2", str(home / name))
    return home


def test_rows_come_back_as_they_were_written(outs):
    assert ours_sft.read_rows(outs / "rows.json") == rows()


@pytest.mark.parametrize("memory", ["keep", "recompute"])
def test_released_trainer_starts_with_our_loss_and_gradient(outs, memory):
    found = run.differences(outs / "cot_raft", outs / memory)
    assert max(found.values()) <= 1e-5
    gradients = load_file(outs / memory / "gradients.safetensors")
    assert all(gradient.abs().max() > 0 for gradient in gradients.values())  # of lora_A, too


def test_only_steps_after_the_first_are_timed(outs):
    result = json.loads((outs / "keep" / "result.json").read_text())
    assert len(result["wall"]) == len(result["cpu"]) == 1


def test_another_objective_is_refused(outs):
    with pytest.raises(SystemExit, match="keep: not the same task as ce"):
        run.differences(outs / "ce", outs / "keep")


def altered(outs, name, change):
    """A copy of `ce` with other gradients."""
    out = outs / name
    out.mkdir()
    (out / "result.json").write_text((outs / "ce" / "result.json").read_text())
    save_file(change(load_file(outs / "ce" / "gradients.safetensors")), out / "gradients.safetensors")
    return out


def test_equal_losses_with_another_gradient_are_refused(outs):
    larger = altered(outs, "larger", lambda gradients: {name: 1.01 * g for name, g in gradients.items()})
    with pytest.raises(SystemExit, match="not the same task"):
        run.differences(outs / "ce", larger)
    broken = altered(outs, "broken", lambda gradients: {name: g * torch.nan for name, g in gradients.items()})
    with pytest.raises(SystemExit, match="not the same task"):
        run.differences(outs / "ce", broken)


def test_other_trained_weights_are_refused(outs):
    fewer = altered(outs, "fewer", lambda gradients: dict(list(gradients.items())[1:]))
    with pytest.raises(SystemExit, match=r"trains other weights: \['layers\.0"):
        run.differences(outs / "ce", fewer)
