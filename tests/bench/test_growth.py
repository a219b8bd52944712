"""The growth curves: what is fitted, tabled and drawn from measurements that are made up here."""

import dataclasses
import json

import pytest

from bench import growth, growth_plots, measuring
from bench.growth import COT, CURVES, UNSHARED
from bench.growth_plots import Entry, Line
from bench.train_step import FULL, OURS
from tract_core.report import figures
from tract_core.train.memory import GIB


def line(seconds, model, gib=1.0):
    return Line(cpu=[seconds, seconds + 0.1, seconds - 0.1], wall=[9.0] * 3, model=model, added=gib * GIB)


def made(name="prompt"):
    """Seconds are twice the model; full logits take twice the time, and half as much memory again."""
    return [
        Entry(x=getattr(point, name), lines={OURS: line(2.0 + n, 1.0 + n / 2), FULL: line(4.0 + 2 * n, 2.0 + n, 1.5)})
        for n, point in enumerate(CURVES[name])
    ]


def sampled():
    lines = {k: (1.0 + k, 2.0 + 3 * k) for k in growth.SAMPLES}
    return [
        Entry(
            x=k, lines={name: Line(cpu=[s], wall=[s], model=s) for name, s in zip((OURS, UNSHARED), both, strict=True)}
        )
        for k, both in lines.items()
    ]


def results(folder):
    """Files as bench/growth.py and bench/rows.py write them."""
    for name in CURVES:
        data = [dataclasses.asdict(entry) for entry in made(name)]
        (folder / f"growth_{name}.json").write_text(json.dumps({"data": data}))
    data = [dataclasses.asdict(entry) for entry in sampled()]
    (folder / "growth_samples.json").write_text(json.dumps({"data": data}))
    rows = [[[n, stage], [n / 1000, n / 500, n / 100]] for n in (1000, 3000) for stage in ("prepare", "score")]
    (folder / "rows.json").write_text(json.dumps({"data": rows}))
    return folder


def test_the_model_is_fitted_by_one_factor_for_all_points_and_variants():
    assert growth_plots.fitted(made()) == pytest.approx(2.0)
    odd = [Entry(x=1, lines={OURS: line(1.0, 1.0), FULL: line(4.0, 1.0)})]
    assert growth_plots.fitted(odd) == pytest.approx(2.0)  # the geometric mean of 1 and 4
    assert growth.fit_note(odd, "GFLOP/s", 1.0).endswith("0.5 GFLOP/s; measured medians lie -50% to +100% from it.")


def test_the_table_of_a_step_has_medians_ratios_and_memory():
    first, *_, last = growth.step_table("prompt", made())
    assert first["prompt"] == "150"
    assert last["prompt"] == "2,400"
    assert first[f"{OURS}, s"] == "2.00 (1.90 to 2.10)"
    assert first["full / ours"] == first["FLOP model"] == "2.00"
    assert first["ms a token, ours"] == "5.00"  # 2 s for 150 + 250 tokens
    assert (first[f"{OURS}, GiB"], first[f"{FULL}, GiB"]) == ("1.00", "1.50")
    measuring.markdown([first, last])


def test_the_flop_model_expects_less_of_full_logits_in_a_deeper_model_and_more_attention_in_a_longer_prompt():
    table = growth.step_table("prompt", made())
    for row in table:
        assert 1 < float(row["FLOP model, Mistral-7B's layers"]) < float(row["FLOP model, 30 layers"])
    shares = [growth.attention_share(point) for point in CURVES["prompt"]]
    assert shares == sorted(shares)
    # By hand, at 2,650 tokens: a layer has 3,538,944 weights (4 FLOPs each and token), attention takes
    # 2 x 576 x 2,650 (forward) x 3.5, and 250 rows of 576 x 49,152 weights take 4 each.
    attention, body = 3.5 * 8 * 2 * 576 * 2650 * 2650, 4 * 8 * 3538944 * 2650
    assert shares[-1] == pytest.approx(attention / (attention + body + 4 * 250 * 576 * 49152))


def test_sharing_is_expected_to_save_more_the_larger_k():
    ratios = [both[UNSHARED] / both[OURS] for both in (growth.projected(k, 1300) for k in growth.SAMPLES)]
    assert ratios == sorted(ratios)
    assert [row["ratio"] for row in growth.samples_table(sampled())] == ["2.50", "2.67", "2.80", "2.89", "2.94"]


def test_the_first_run_weighs_and_draws_little_and_the_others_only_run():
    added, calls = {}, []
    run = growth.weighed(lambda: calls.append(bytearray(2**26)), added, OURS)
    run()
    assert added[OURS] == pytest.approx(2**26, rel=0.1)
    before = dict(added)
    run()
    assert added == before
    assert len(calls) == 2
    asked = []
    warmed = growth.warmed(lambda requests, length: asked.append((len(requests), length)), ["a", "b", "c"])
    warmed(), warmed(), warmed()
    assert asked == [(1, 8), (3, COT), (3, COT)]


def test_every_measurement_is_drawn_small_and_with_the_same_bytes(tmp_path):
    folder = results(tmp_path)
    files = growth_plots.write(folder, tmp_path / "a")
    again = growth_plots.write(folder, tmp_path / "b")
    steps = [name for curve in CURVES for name in (curve, f"{curve}_memory")]
    assert [file.stem for file in files] == [*steps, "samples", "rows"]
    for one, two in zip(files, again, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert one.stat().st_size < 60_000
    for file, words in {
        files[0]: ("ours", "full logits", "dashed: FLOP model"),
        files[-1]: ("prepare", "1,000"),
    }.items():
        assert all(word in file.read_text() for word in words)


def test_other_measurements_give_another_plot_and_absent_ones_none(tmp_path):
    folder = results(tmp_path)
    before = growth_plots.write(folder, tmp_path / "a")[0].read_bytes()
    changed = json.loads((folder / "growth_prompt.json").read_text())
    changed["data"][0]["lines"][OURS]["cpu"] = [2.5] * 3
    (folder / "growth_prompt.json").write_text(json.dumps(changed))
    assert growth_plots.write(folder, tmp_path / "b")[0].read_bytes() != before
    (folder / "growth_prompt.json").unlink()
    assert growth_plots.panels(folder)[0].name == "completion"


def test_the_plots_of_the_docs_are_those_of_the_results():
    """`python -m bench.growth --plot` draws them again."""
    panels = growth_plots.panels(measuring.RESULTS)
    drawn = {f"{panel.name}.svg": figures.save(panel, "svg") for panel in panels}
    assert drawn == {file.name: file.read_bytes() for file in growth_plots.FOLDER.iterdir()}
