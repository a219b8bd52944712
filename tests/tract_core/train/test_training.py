import csv
import dataclasses
import json
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import preset
from tests import reference, torchrun
from tests.conftest import SCALE
from tests.tract_core.train.conftest import in_float64
from tract_core.base import tables
from tract_core.base.errors import SignalError, UserError
from tract_core.model import models
from tract_core.model.objectives import Objective
from tract_core.train import memory, training

PRESET = preset.load("tiny")


def recipe(*, normalization="authors", lam=1.0, kind="cot_raft", score_term="squared_error", **train):
    settings = PRESET.train.model_copy(update={"batch_size": 8, "micro_batch_size": 2, "epochs": 2, **train})
    objective = Objective.create(
        kind=kind,
        lam=lam,
        normalization=normalization,
        authors_batch=8,
        ce_on_score="auto",
        ce_on_eos=True,
        score_term=score_term,
    )
    return training.Recipe(
        model=PRESET.model,
        prompt=PRESET.prompt,
        scale=PRESET.scale,
        lora=PRESET.lora,
        train=settings,
        objective=objective,
        run_seed=1,
    )


def around_steps(loop, *, before=lambda: None, after):
    """Calls around each step of the optimizer, before the step is logged and saved."""
    take = loop._take_step

    def taking():
        before()
        taken = take()
        after()
        return taken

    loop._take_step = taking


def gradients(examples, seed_model, encoder, **changes):
    """In float64, so that what is compared is the arithmetic of the denominators and not float32's rounding."""
    loop = training._build_loop(examples, recipe(max_grad_norm=1e9, **changes), seed_model, encoder, None)
    in_float64(loop.module)
    trained, steps = [p for p in loop.module.parameters() if p.requires_grad], []
    loop.optimizer.register_step_pre_hook(lambda *_: steps.append(torch.cat([p.grad.flatten() for p in trained])))
    loop.run()
    return steps


@pytest.mark.parametrize("normalization", ["authors", "equation4", "token_mean"])
def test_gradients_do_not_depend_on_how_a_batch_is_split(normalization, examples, seed_model, tiny_encoder):
    runs = {
        micro: gradients(examples, seed_model, tiny_encoder, normalization=normalization, micro_batch_size=micro)
        for micro in (8, 4, 1)
    }
    whole = runs[8]
    assert len(whole) == 4  # 2 epochs x (8 + 3 examples)
    for micro, steps in runs.items():
        for step, (ours, theirs) in enumerate(zip(steps, whole, strict=True)):
            difference = (ours - theirs).norm() / theirs.norm()
            assert difference <= 1e-9, (micro, step, difference)


def test_a_step_has_the_sum_of_the_gradients_of_its_parts(examples, seed_model, tiny_encoder, monkeypatch):
    """Not their mean: nothing divides by the number of micro-batches, even where the launcher's settings ask for it."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    step, *_ = gradients(examples, seed_model, tiny_encoder)
    loop = training._build_loop(examples, recipe(), seed_model, tiny_encoder, None)
    module = in_float64(loop.module).train()
    batches = [loop.collate([(examples[i], True) for i, _ in items]) for items in loop.order.micro_batches(0)]
    assert len(batches) == 4
    counts = torch.tensor([sum(float(batch[name].sum()) for batch in batches) for name in ("ce_mask_N", "counts_B")])
    trained = [p for p in module.parameters() if p.requires_grad]
    parts = [torch.autograd.grad(module(**batch, step_counts=counts).total, trained) for batch in batches]
    total = sum(torch.cat([gradient.flatten() for gradient in part]) for part in parts)
    assert (step - total).norm() / total.norm() <= 1e-9


def test_order_tasks_trains_on_one_task_a_step(examples, seed_model, tiny_encoder):
    tasks = [dataclasses.replace(example, task=str(index % 2)) for index, example in enumerate(examples[:8])]
    found = {}
    for order in ("rows", "tasks"):
        settings = recipe(batch_size=4, order=order)
        steps = training._build_loop(tasks, settings, seed_model, tiny_encoder, None).order
        found[order] = [{tasks[index].task for index in steps.examples_of(step, step + 1)} for step in range(4)]
    assert all(len(names) == 1 for names in found["tasks"])
    assert any(len(names) == 2 for names in found["rows"])


@pytest.mark.timeout(180)
def test_two_ranks_have_the_gradients_of_one(examples, seed_model, tiny_encoder, tmp_path):
    """Two CPU processes (gloo), micro-batch 1: the tail of 3 leaves one rank without an example."""
    out = tmp_path / "gradients.pt"
    code, words = torchrun.on_two_ranks("-m", "tests.rank_child", seed_model.folder, out)
    assert code == 0, words
    together, alone = torch.load(out), gradients(examples, seed_model, tiny_encoder, micro_batch_size=8)
    assert len(together) == len(alone) == 4
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours - theirs).norm() / theirs.norm() <= 1e-9


def test_gradient_checkpointing_changes_nothing(examples, seed_model, tiny_encoder):
    plain = gradients(examples, seed_model, tiny_encoder)
    saved = gradients(examples, seed_model, tiny_encoder, gradient_checkpointing=True)
    for ours, theirs in zip(saved, plain, strict=True):
        assert (ours - theirs).norm() / theirs.norm() <= 1e-9


def test_recompute_changes_no_byte_of_an_adapter(examples, seed_model, tiny_encoder, tmp_path):
    weights = []
    for recompute in (True, False):
        out = tmp_path / str(recompute)
        train(examples, seed_model, tiny_encoder, out, gradient_checkpointing=recompute)
        weights.append((out / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("free", "chosen"), [(2**20, True), (2**40, False)])
def test_auto_recomputes_when_little_memory_is_free(
    free, chosen, examples, seed_model, tiny_encoder, monkeypatch, caplog
):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    caplog.set_level("INFO", logger="tract_core.train.memory")
    settings = recipe(gradient_checkpointing="auto")
    loop = training._build_loop(examples, settings, seed_model, tiny_encoder, None)
    assert loop.module.model.is_gradient_checkpointing is chosen
    longest = sum(sorted(len(example.input_ids) for example in examples)[-2:])
    said = "recomputed" if chosen else "kept"
    assert (
        f"activations are {said} (train.gradient_checkpointing: auto): the longest micro-batch, {longest} tokens"
        in (caplog.text)
    )


def test_a_checkpoint_is_taken_up_with_the_other_choice(examples, seed_model, tiny_encoder, tmp_path, monkeypatch):
    """Stopped with much memory, gone on with little: the adapter of a run that was not stopped."""
    whole, stopped = tmp_path / "a/whole", tmp_path / "b/stopped"
    automatic = {"gradient_checkpointing": "auto"}
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**40)
    train(examples, seed_model, tiny_encoder, whole, **automatic)
    with monkeypatch.context() as patch:
        patch.setattr(training.tables, "write_csv", full_disk)
        with pytest.raises(OSError, match="no space"):
            train(examples, seed_model, tiny_encoder, stopped, **automatic)
    (last,) = (tmp_path / "b/work").glob("*/*4")
    shutil.rmtree(last)  # so that a step is left
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**20)
    train(examples, seed_model, tiny_encoder, stopped, **automatic)
    for name in ("adapter_model.safetensors", "manifest.json"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def full_disk(*arguments):
    raise OSError("no space")


def test_mode_of_the_modules_is_set_once_and_for_all_of_them(examples, seed_model, tiny_encoder, monkeypatch):
    """A walk over a large model's modules takes milliseconds."""
    loop = training._build_loop(examples, recipe(), seed_model, tiny_encoder, None)
    loop.module.model.eval()  # as from_pretrained leaves a model
    walk, walks = loop.module.model.train, []
    monkeypatch.setattr(loop.module.model, "train", lambda mode=True: walks.append(mode) or walk(mode))
    loop.run()
    assert walks == [True]
    assert all(module.training for module in loop.module.modules())
    loop.module.eval()
    assert not any(module.training for module in loop.module.modules())


def logits_and_labels(model, examples):
    """What tests/reference.py reads: a model's full logits in float64, and each example's targets."""
    model = model.double()
    with torch.no_grad():
        logits = [model(torch.tensor([example.input_ids])).logits[0].tolist() for example in examples]
    return logits, [[-100] * e.num_prompt + e.input_ids[e.num_prompt :] for e in examples]


@pytest.mark.parametrize("score_term", ["squared_error", "rps"])
def test_step_loss_equals_the_brute_force_reference(score_term, examples, seed_model, tiny_encoder):
    """The first logged loss, against float64 loops over the seed model's own full logits."""
    how = recipe(epochs=1, score_term=score_term)
    loop = training._build_loop(examples[:8], how, seed_model, tiny_encoder, None)
    loop.run()
    logits, labels = logits_and_labels(models.load_model(seed_model, "float32"), examples[:8])
    expected = reference.total(
        logits,
        labels,
        [example.gold for example in examples[:8]],
        list(tiny_encoder.score_tokens.label_ids),
        list(SCALE.values),
        normalization="authors",
        lam=1.0,
        rps=score_term == "rps",
    )
    assert loop.records[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_step_loss_of_several_annotators_equals_the_brute_force_reference(examples, seed_model, tiny_encoder):
    """As above with KL, of examples of which each second one has two annotators."""
    scores = [[example.gold, 1 + (example.gold + index) % 5] for index, example in enumerate(examples[:8])]
    shares = [
        SCALE.distribution(both) if index % 2 else SCALE.distribution(both[:1]) for index, both in enumerate(scores)
    ]
    soft = [dataclasses.replace(e, gold_shares=q) for e, q in zip(examples[:8], shares, strict=True)]
    loop = training._build_loop(soft, recipe(epochs=1, score_term="kl"), seed_model, tiny_encoder, None)
    loop.run()
    expected = reference.total(
        *logits_and_labels(models.load_model(seed_model, "float32"), soft),
        [example.gold for example in soft],
        list(tiny_encoder.score_tokens.label_ids),
        list(SCALE.values),
        normalization="authors",
        lam=1.0,
        kl_shares=shares,
    )
    assert loop.records[0]["loss"] == pytest.approx(expected, rel=1e-5)


def train(examples, seed_model, encoder, out, start=None, **changes):
    return training.train_adapter(
        examples,
        recipe(**changes),
        seed_model=seed_model,
        encoder=encoder,
        data={"examples": "hash"},
        out=out,
        log=out.with_suffix(".csv"),
        start=start,
        work=out.with_name("work"),
    )


def records(out):
    with out.with_suffix(".csv").open() as file:
        return [{name: float(value) for name, value in record.items()} for record in csv.DictReader(file)]


# Losses of the run below, written down once (torch 2.13.0, transformers 5.19.0, peft 0.21.2, x86-64 CPU).
# The tiny tokenizer learns from data/demo, so another demo text is another golden run.
GOLDEN = [8.416807, 8.206663, 7.515275, 7.361466]


def test_golden_run(examples, seed_model, tiny_encoder, tmp_path, caplog):
    caplog.set_level("INFO", logger="tract_core.train.training")
    line = train(examples, seed_model, tiny_encoder, tmp_path / "a")
    assert [record["loss"] for record in records(tmp_path / "a")] == pytest.approx(GOLDEN, rel=1e-4)
    assert line == f"4 steps on 11 examples, loss 8.42 -> 7.36 (the first and the last step) -> {tmp_path / 'a'}"
    assert "lambda in the unit of each loss.normalization: authors 1, token_mean 0.125, equation4" in caplog.text


@pytest.mark.parametrize(
    ("losses", "log_every", "course"),
    [
        ([3.619], 1, "1 steps on 2 examples, loss 3.62"),
        ([4.0, 2.0], 1, "2 steps on 2 examples, loss 4 -> 2 (the first and the last step)"),
        # Means of 4 and 3, and of 2 and 1.
        (
            [4.0, 3.0, *[9.0] * 16, 2.0, 1.0],
            5,
            "100 steps on 2 examples, loss 3.5 -> 1.5 (means of the first and last 10 steps)",
        ),
    ],
)
def test_the_line_of_a_training_says_where_the_loss_went(losses, log_every, course):
    steps = log_every * len(losses)
    loop = SimpleNamespace(
        records=[{"loss": loss} for loss in losses], log_every=log_every, step=steps, examples=["a", "b"]
    )
    assert training._describe(loop, "adapter") == f"{course} -> adapter"


def test_an_adapter_folder_is_complete_and_byte_stable(examples, seed_model, tiny_encoder, tmp_path):
    for name in ("a", "b"):
        train(examples, seed_model, tiny_encoder, tmp_path / name)
    files = ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    origin = models.check_adapter(tmp_path / "a", seed_model).origin
    assert origin["objective"]["lam"] == 1.0
    assert origin["lora"]["rank"] == PRESET.lora.rank
    assert origin["data"] == {"examples": "hash"}
    assert str(seed_model.folder) not in (tmp_path / "a" / "adapter_config.json").read_text()


def test_training_moves_the_adapter_and_the_prediction(examples, seed_model, tiny_encoder, tmp_path):
    # A random model has little mass on the scores; with a large lambda the squared error must raise it.
    train(examples, seed_model, tiny_encoder, tmp_path / "a", epochs=12, learning_rate=2e-2, lam=100.0)
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for tensor in weights.values())
    losses = [record["loss"] for record in records(tmp_path / "a")]
    assert sum(losses[-2:]) < sum(losses[:2]) - 0.5  # last epoch against first: the same 11 rows
    adapter = models.check_adapter(tmp_path / "a", seed_model)
    base, merged = models.load_model(seed_model, "float32"), models.load_merged(seed_model, adapter, "float32")
    ids = torch.tensor([examples[0].input_ids[: examples[0].score_position]])
    labels = list(tiny_encoder.score_tokens.label_ids)
    mass = [model(ids).logits[0, -1].softmax(-1)[labels].sum().item() for model in (base, merged)]
    assert mass[1] > 1.5 * mass[0]


def test_another_seed_is_another_adapter(examples, seed_model, tiny_encoder, tmp_path):
    train(examples, seed_model, tiny_encoder, tmp_path / "a")
    other = training.Recipe(**{**{f: getattr(recipe(), f) for f in recipe().__dataclass_fields__}, "run_seed": 2})
    training.train_adapter(
        examples,
        other,
        seed_model=seed_model,
        encoder=tiny_encoder,
        data={},
        out=tmp_path / "b",
        log=tmp_path / "b.csv",
        work=tmp_path / "work",
    )
    a, b = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "ab")
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_no_success_before_the_last_step(examples, seed_model, tiny_encoder, tmp_path, monkeypatch):
    """A signal is all that ends a loop early without an error of its own."""
    build = training._build_loop

    def stopping(*args):
        loop = build(*args)
        around_steps(loop, after=lambda: os.kill(os.getpid(), signal.SIGTERM))
        return loop

    train(examples, seed_model, tiny_encoder, tmp_path / "earlier")
    before = {path: path.read_bytes() for path in (tmp_path / "earlier.csv", *(tmp_path / "earlier").iterdir())}
    monkeypatch.setattr(training, "_build_loop", stopping)
    for name, lam in (("a", 1.0), ("earlier", 2.0)):
        with pytest.raises(SignalError, match="stopped at step 1 of 4; it is saved, and `dvc repro` goes on from it"):
            train(examples, seed_model, tiny_encoder, tmp_path / name, lam=lam)
    assert not list(tmp_path.glob("a*"))
    assert {path: path.read_bytes() for path in before} == before


def test_a_loss_that_is_not_finite_stops_with_the_step(examples, seed_model, tiny_encoder, tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf), the norm of its gradient .*, at step \d+; "):
        train(examples, seed_model, tiny_encoder, tmp_path / "a", learning_rate=1e30, max_grad_norm=1e30, epochs=4)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_bad_splits_and_empty_data_are_clear_errors(examples, seed_model, tiny_encoder, tmp_path):
    with pytest.raises(UserError, match=r"train\.batch_size \(8\) must be a multiple .* \(3 x 1\)"):
        train(examples, seed_model, tiny_encoder, tmp_path / "a", micro_batch_size=3)
    with pytest.raises(UserError, match="no training examples are left"):
        train([], seed_model, tiny_encoder, tmp_path / "a")


def test_manifest_is_valid_json_without_nan(examples, seed_model, tiny_encoder, tmp_path):
    train(examples, seed_model, tiny_encoder, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert set(manifest["files"]) == {"adapter_config.json", "adapter_model.safetensors"}
    tables.verify_manifest(tmp_path / "a")


def test_a_run_from_an_adapter_starts_where_that_adapter_ended(examples, seed_model, tiny_encoder, tmp_path):
    """Rows A.4 and sequential: the first loss is that of p_0 with the start's weights, in float64 loops."""
    first, second = tmp_path / "first", tmp_path / "second"
    train(examples[:8], seed_model, tiny_encoder, first, kind="ce", epochs=4)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    train(examples[:8], seed_model, tiny_encoder, second, start=first, epochs=2)  # warm-up: step 1 has rate 0
    expected = []
    for adapter in (models.check_adapter(first, seed_model), None):
        logits, labels = logits_and_labels(models.load_merged(seed_model, adapter, "float32"), examples[:8])
        gold, ids = [example.gold for example in examples[:8]], list(tiny_encoder.score_tokens.label_ids)
        expected.append(reference.total(logits, labels, gold, ids, SCALE.values, normalization="authors", lam=1.0))
    assert records(second)[0]["loss"] == pytest.approx(expected[0], rel=1e-5)
    assert abs(expected[0] - expected[1]) > 0.1  # a fresh adapter would have started elsewhere
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert a.keys() == b.keys()
    assert all(not torch.equal(a[name], b[name]) for name in a)


def test_the_manifest_names_the_start_and_whether_there_is_a_cot(
    examples, direct_examples, seed_model, tiny_encoder, direct_encoder, tmp_path
):
    train(examples[:8], seed_model, tiny_encoder, tmp_path / "fresh", epochs=1)
    train(examples[:8], seed_model, tiny_encoder, tmp_path / "next", start=tmp_path / "fresh", epochs=1)
    train(direct_examples[:8], seed_model, direct_encoder, tmp_path / "direct", kind="ce", epochs=1)
    found = {name: tables.origin(tmp_path / name) for name in ("fresh", "next", "direct")}
    hash_of_fresh = tables.file_sha256(tmp_path / "fresh" / "manifest.json")
    assert {name: origin["start"] for name, origin in found.items()} == {
        "fresh": None,
        "next": hash_of_fresh,
        "direct": None,
    }
    assert {name: origin["cot"] for name, origin in found.items()} == {"fresh": True, "next": True, "direct": False}
    assert found["direct"]["encoder"] == direct_encoder.fingerprint() != found["fresh"]["encoder"]


def test_a_start_with_other_lora_settings_is_refused_and_nothing_is_saved(examples, seed_model, tiny_encoder, tmp_path):
    train(examples[:8], seed_model, tiny_encoder, tmp_path / "a", epochs=1)
    other = dataclasses.replace(recipe(), lora=PRESET.lora.model_copy(update={"rank": 2}))
    with pytest.raises(UserError, match=r"was trained with lora .*'rank': 8"):
        training.train_adapter(
            examples,
            other,
            seed_model=seed_model,
            encoder=tiny_encoder,
            data={},
            out=tmp_path / "b",
            log=tmp_path / "b.csv",
            start=tmp_path / "a",
            work=tmp_path / "work",
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.csv", "work"]


def test_raft_without_cots_trains_on_the_squared_error_alone(
    direct_examples, seed_model, direct_encoder, tmp_path, caplog
):
    """Row B.4: no sequence has a token with cross-entropy, so no lambda has a unit."""
    some = direct_examples[:8]
    caplog.set_level("INFO", logger="tract_core.train.training")
    train(some, seed_model, direct_encoder, tmp_path / "a", kind="raft", lam=0.0, epochs=2)
    assert "lambda" not in caplog.text
    logits, labels = logits_and_labels(models.load_model(seed_model, "float32"), some)
    ids = list(direct_encoder.score_tokens.label_ids)
    scores = [reference.expected_score(z, y, ids, SCALE.values)[0] for z, y in zip(logits, labels, strict=True)]
    mean_error = sum((s - e.gold) ** 2 for s, e in zip(scores, some, strict=True)) / 8
    first = records(tmp_path / "a")[0]
    assert first["loss"] == pytest.approx(mean_error / 8, rel=1e-5)  # `authors` divides by 8 once more
    assert first["squared_error"] == pytest.approx(mean_error, rel=1e-5)
    assert first["cross_entropy"] == 0.0
    weights = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert all(tensor.abs().max() > 0 for tensor in weights.values())  # LoRA's B starts at 0


def test_raft_with_cots_learns_no_cot(examples, seed_model, tiny_encoder, tmp_path, caplog):
    """Row sequential: the loss is the squared error's part, while the CoT's cross-entropy is only logged."""
    caplog.set_level("INFO", logger="tract_core.train.training")
    train(examples, seed_model, tiny_encoder, tmp_path / "a", kind="raft")
    assert "lambda" not in caplog.text
    first = records(tmp_path / "a")[0]
    assert first["cross_entropy"] > 1
    assert first["loss"] == pytest.approx(first["squared_error"] / 8, rel=1e-5)


def test_gradients_of_raft_do_not_depend_on_how_a_batch_is_split(direct_examples, seed_model, direct_encoder):
    whole, single = (
        gradients(direct_examples, seed_model, direct_encoder, kind="raft", micro_batch_size=micro) for micro in (8, 1)
    )
    assert len(whole) == 4
    for ours, theirs in zip(single, whole, strict=True):
        assert (ours - theirs).norm() / theirs.norm() <= 1e-9


def test_ce_without_cots_learns_score_and_end_token(direct_examples, seed_model, direct_encoder, tmp_path):
    """Row B.1, against float64 loops: every target token counts, the score token too."""
    some = direct_examples[:8]
    train(some, seed_model, direct_encoder, tmp_path / "a", kind="ce", epochs=1)
    logits, labels = logits_and_labels(models.load_model(seed_model, "float32"), some)
    parts = [reference.cross_entropy_sum(z, y, with_score=True) for z, y in zip(logits, labels, strict=True)]
    assert [count for _, count in parts] == [2] * 8
    (record,) = records(tmp_path / "a")
    assert record["loss"] == pytest.approx(sum(total for total, _ in parts) / 16, rel=1e-5)


class CountWaits(TorchDispatchMode):
    """Operations that make the host wait for the device: they read a value, or have a size that depends on values.

    AdamW keeps the count of its steps on the host, on a GPU too; reading it is no wait.
    """

    READS = frozenset({"aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten._unique2"})

    def __init__(self):
        super().__init__()
        self.found, self.host = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masked = "aten.index" in str(func) and any(t is not None and t.dtype == torch.bool for t in args[1])
        read = str(func).rpartition(".")[0] in self.READS
        if masked or (read and args[0].data_ptr() not in self.host):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def waits(examples, seed_model, encoder, *, logging_steps, **changes):
    """Of each step of one epoch, with the log before it, but of the first: AdamW has no counters then to tell apart."""
    loop = training._build_loop([*examples, *examples], recipe(epochs=1, **changes), seed_model, encoder, None)
    loop.log_every, steps = logging_steps, []
    with CountWaits() as mode:

        def tell_apart():
            mode.host = {state["step"].data_ptr() for state in loop.optimizer.state.values()}

        def note():
            steps.append(list(mode.found))
            mode.found.clear()

        around_steps(loop, before=tell_apart, after=note)
        loop.run()
    assert len(steps) == 3  # 8 + 8 + 6 examples
    return steps[1:]


@pytest.mark.parametrize("micro", [1, 2, 8])
def test_the_host_never_waits_for_the_device_between_two_logs(micro, examples, seed_model, tiny_encoder):
    assert waits(examples, seed_model, tiny_encoder, micro_batch_size=micro, logging_steps=100) == [[], []]


def test_a_log_waits_once_and_reads_once_more_what_is_there_by_then(examples, seed_model, tiny_encoder):
    # The norm of the gradient; `tolist` of the six sums does not show here.
    found = waits(examples, seed_model, tiny_encoder, logging_steps=1)
    assert found == [["aten._local_scalar_dense.default"]] * 2


def test_a_wait_is_seen(examples, seed_model, tiny_encoder, monkeypatch):
    add = training.Loop._add_gradients

    def waiting(self, *args):
        add(self, *args)
        self._sums[0].item()

    monkeypatch.setattr(training.Loop, "_add_gradients", waiting)
    found = waits(examples, seed_model, tiny_encoder, logging_steps=100)
    assert [len(step) for step in found] == [4, 3]  # one for each micro-batch of 2 examples
