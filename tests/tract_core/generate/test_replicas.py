"""Several engines in processes of a real Ray: the bytes of one engine, whatever dies."""

from collections import Counter
from contextlib import nullcontext

import pytest
import torch

from tests import generation_child
from tests.conftest import SCALE, STYLE
from tests.dying_replicas import DiesAt7, DiesAt7Once, DiesAtStart, Refuses, RefusesAtStart, Written, with_died
from tract_core.base import config, tables
from tract_core.base.errors import LibraryError, UserError
from tract_core.generate import generation
from tract_core.generate.engine import Decoding, Request, cluster, replicas
from tract_core.generate.engine.replicas import Replica, ReplicatedEngine, portions
from tract_core.generate.generation import Generator
from tract_core.model import models
from tract_core.text.encoding import Encoder

pytestmark = pytest.mark.timeout(300)
MODEL = config.Model(source="x", revision=None, dtype="float32", max_length=2048)


def settings(number, name="transformers", batch_size=4):
    return config.Engine(name=name, batch_size=batch_size, memory="auto", replicas=number)


def requests(number):
    return [Request(key=str(i), prompt_ids=[number - i], seed=i) for i in range(number)]


@pytest.fixture(scope="module")
def four_cpus():
    """A Ray that takes this machine for one of four CPUs; one thread for each engine, and here."""
    ray = pytest.importorskip("ray", reason="Ray is missing: pip install -r requirements-ray.txt")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        cluster._settle()
        ray.init(address="local", num_cpus=4, **cluster._here())
        yield ray
        ray.shutdown()
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _room(monkeypatch):
    """The processes of a test end with it: Ray would let the next one wait for their CPUs."""
    made, start = [], cluster.start
    monkeypatch.setattr(cluster, "start", lambda *given: made.append(start(*given)) or made[-1])
    yield
    for started in made:
        cluster.stop(started)


def table(folder, model, number):
    """The bytes of a table of 40 predictions, and the generator's engine."""
    seed_model = models.SeedModel(folder=model, identity="tiny")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    generator = Generator(
        encoder,
        model=MODEL,
        sampling=generation_child.SAMPLING,
        engine=settings(number),
        seed_model=seed_model,
        adapter=None,
        stage="infer",
        work=folder / "work",
    )
    rows = generation.infer(generator, generation_child.ROWS, seeds=[1, 2], num_samples=2)
    tables.write(folder / "table", "predictions", rows, generator.origin)
    return {file.name: file.read_bytes() for file in (folder / "table").iterdir()}, generator._engine


@pytest.fixture(scope="module")
def alone(four_cpus, tiny_folder, tmp_path_factory):
    """What one engine in this process writes."""
    return table(tmp_path_factory.mktemp("alone"), tiny_folder, 1)[0]


@pytest.mark.parametrize("number", [2, 4])
def test_several_engines_write_the_bytes_of_one(number, alone, tiny_folder, tmp_path):
    files, engine = table(tmp_path, tiny_folder, number)
    assert files == alone
    assert len(engine._engines) == number


def test_an_engine_that_is_killed_costs_nothing(alone, tiny_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(replicas, "Replica", with_died(tmp_path / "died"))
    added = Counter()
    add = generation.Store.add
    monkeypatch.setattr(
        generation.Store, "add", lambda store, samples: (added.update(list(samples)), add(store, samples))
    )
    files, engine = table(tmp_path, tiny_folder, 2)
    assert (tmp_path / "died").exists()
    assert files == alone
    assert len(added) == 40
    assert set(added.values()) == {1}
    assert "an engine ended (The actor " in caplog.text  # Ray: it "died unexpectedly", or "is unavailable"
    assert len(engine._engines) == 2


@pytest.fixture
def make(four_cpus, encoder, tmp_path, monkeypatch):
    """Two engines of a kind, asked as vLLM is."""

    def made(replica):
        monkeypatch.setattr(replicas, "Replica", replica)
        decoding = Decoding(encoder=encoder, sampling=generation_child.SAMPLING, max_length=2048)
        parts = models.SeedModel(folder=tmp_path, identity="x"), None
        return ReplicatedEngine(settings(2, "vllm"), MODEL, decoding, lambda: nullcontext(parts))

    return made


def asked(tmp_path):
    return (tmp_path / "asked").read_text().split()


def answered(engine, number):
    return [sample.key for samples in engine.generate([requests(number)], score=False) for sample in samples]


def test_what_an_engine_has_answered_before_it_died_is_not_asked_again(make, tmp_path):
    assert sorted(answered(make(DiesAt7Once), 12), key=int) == [str(i) for i in range(12)]
    assert Counter(asked(tmp_path)) == Counter({**{str(i): 1 for i in range(12)}, "7": 2})


def test_engines_stay_for_the_next_call_and_are_no_more_than_portions(make, tmp_path):
    engine = make(Written)
    assert len(answered(engine, 3)) == 3
    first = list(engine._engines)
    assert len(first) == 1
    assert len(answered(engine, 9)) == 9
    assert len(engine._engines) == 2
    assert engine._engines[0] is first[0]


def test_a_request_that_ends_each_engine_ends_the_stage(make, tmp_path):
    engine, got = make(DiesAt7), []
    answers = engine.generate([requests(12)], score=False)
    with pytest.raises(
        LibraryError, match=r"(?s)2 engines ended over the same \d+ requests.*a rerun asks for the others"
    ):
        got.extend(sample.key for samples in answers for sample in samples)
    assert "7" not in got
    assert len(set(got)) == len(got)


def test_an_engine_that_dies_while_it_starts_ends_the_stage(make):
    with pytest.raises(LibraryError, match="of an engine ended 3 times while it started: "):
        answered(make(DiesAtStart), 3)


@pytest.mark.parametrize(
    ("replica", "kind", "message"),
    [
        (Refuses, UserError, "out of memory with 4 sequences; lower engine.batch_size"),
        (RefusesAtStart, LibraryError, "vLLM does not start: no memory"),
    ],
)
def test_the_error_of_an_engine_arrives_as_it_was(replica, kind, message, make):
    with pytest.raises(UserError) as caught:
        answered(make(replica), 12)
    assert type(caught.value) is kind
    assert str(caught.value) == message


def test_a_node_without_the_projects_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"/none is not on the node .*: each node of the Ray cluster needs"):
        Replica().open(settings(2), MODEL, None, models.SeedModel(folder=tmp_path / "none", identity="x"), None)


def test_transformers_gets_the_fixed_batches():
    batches = [requests(4), requests(3)]
    assert [list(portion.left.values()) for portion in portions(batches, settings(2))] == batches


@pytest.mark.parametrize("number", [1, 4, 5, 100, 1000])
def test_vllm_gets_similar_prompts_together_first_many_and_at_last_a_batch(number):
    cut = [list(portion.left.values()) for portion in portions([requests(number)], settings(2, "vllm"))]
    assert [request.prompt_ids for portion in cut for request in portion] == [[n + 1] for n in range(number)]
    sizes = [len(portion) for portion in cut]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(min(4, number), number // 4)
    assert sizes[-1] <= 4
