"""A model folder's generation_config.json says how its makers sample. Nothing of it reaches our samples."""

import json
import shutil

import pytest
from transformers import GenerationConfig

from tests.conftest import SCALE, STYLE
from tests.tract_core.generate.test_engine import SAMPLING, answers, engine, requests, vllm_answer
from tract_core.base import config
from tract_core.model import models
from tract_core.text.encoding import Encoder

USUAL = 300
"""An ordinary token of the tiny model."""
ODD = {
    "max_length": 7, "max_new_tokens": 1, "min_length": 1900, "min_new_tokens": 50, "early_stopping": True,
    "max_time": 1e-9, "stop_strings": ["e", "a"], "do_sample": True, "num_beams": 3, "use_mtp": True,
    "use_cache": False, "cache_implementation": "static", "cache_config": {"nbits": 2}, "max_cache_len": 4,
    "temperature": 0.01, "top_k": 1, "top_p": 0.01, "min_p": 0.9, "top_h": 0.1, "typical_p": 0.1,
    "epsilon_cutoff": 0.5, "eta_cutoff": 0.5, "repetition_penalty": 50.0, "encoder_repetition_penalty": 9.0,
    "length_penalty": 5.0, "no_repeat_ngram_size": 1, "bad_words_ids": [[n] for n in range(3, 900)],
    "renormalize_logits": True, "forced_bos_token_id": USUAL, "forced_eos_token_id": USUAL,
    "remove_invalid_values": True, "exponential_decay_length_penalty": [1, 90.0],
    "suppress_tokens": list(range(3, 900)), "begin_suppress_tokens": list(range(3, 900)),
    "sequence_bias": [[[USUAL], 90.0]], "token_healing": True, "guidance_scale": 9.0,
    "watermarking_config": {"bias": 90.0}, "num_return_sequences": 2, "output_attentions": True,
    "output_hidden_states": True, "output_scores": True, "output_logits": True, "return_dict_in_generate": True,
    "pad_token_id": USUAL, "bos_token_id": USUAL, "eos_token_id": list(range(3, 900)),
    "encoder_no_repeat_ngram_size": 1, "decoder_start_token_id": USUAL, "is_assistant": True,
    "num_assistant_tokens": 3, "num_assistant_tokens_schedule": "constant", "assistant_confidence_threshold": 0.1,
    "prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 2, "assistant_early_exit": 1, "assistant_lookbehind": 2,
    "target_lookbehind": 2, "assistant_ensemble_weight": 0.5, "speculation_type": "mtp", "compile_config": None,
    "disable_compile": True, "continuous_batching_config": None, "low_memory": True, "penalty_alpha": 0.6,
    "dola_layers": "low", "diversity_penalty": 1.0, "num_beam_groups": 3, "constraints": ["x"],
    "force_words_ids": [[USUAL]], "prefill_chunk_size": 5, "transformers_version": "0.0.1",
}  # fmt: skip


def sampled(folder):
    seed_model = models.SeedModel(folder=folder, identity="x")
    encoder = Encoder(models.load_tokenizer(seed_model), STYLE, SCALE)
    tiny = models.load_model(seed_model, "float32"), encoder
    found = answers(engine(tiny, max_new_tokens=4), requests(encoder, n=2), score=True)
    return [(one.cot_ids, one.finish_reason, one.score.sampled_id, one.score.probs) for one in found]


@pytest.fixture(scope="module")
def expected(tiny_folder):
    return sampled(tiny_folder)


def with_settings(tiny_folder, folder, file, **settings):
    shutil.copytree(tiny_folder, folder)
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**found, **settings}))
    return folder


def test_every_setting_that_transformers_knows_is_tried():
    known = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert known <= set(ODD)


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("name", ODD)
def test_no_setting_of_a_model_folder_reaches_the_samples(tiny_folder, expected, tmp_path, file, name):
    folder = with_settings(tiny_folder, tmp_path / "model", file, **{name: ODD[name]})
    assert sampled(folder) == expected


@pytest.mark.parametrize("settings", [{"temperature": 0.9, "top_p": 0.6}, ODD], ids=["sampling", "all"])
def test_no_setting_of_a_model_folder_keeps_the_merged_model_from_being_saved(tiny_folder, tmp_path, settings):
    folder = with_settings(tiny_folder, tmp_path / "model", "generation_config.json", **settings)
    seed_model = models.SeedModel(folder=folder, identity="x")
    lora = config.Lora(rank=2, alpha=4.0, dropout=0.0, targets="all-linear")
    models.save_adapter(models.add_lora(models.load_model(seed_model, "float32"), lora, 1), tmp_path / "adapter")
    adapter = models.Adapter(folder=tmp_path / "adapter", origin={"base": "x"})
    with models.merged_folder(seed_model, adapter, "float32", tmp_path / "work") as merged:
        kept = json.loads((merged / "generation_config.json").read_text())
    assert set(kept) <= {"_from_model_config", "transformers_version"}


@pytest.mark.real
@pytest.mark.timeout(600)
def test_vllm_does_not_end_a_cot_where_a_model_folder_says_so(tiny_folder, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed; run `make env`")
    ends = {"eos_token_id": ODD["eos_token_id"]}
    folder = with_settings(tiny_folder, tmp_path / "model", "generation_config.json", **ends)
    encoder = Encoder(models.load_tokenizer(models.SeedModel(folder=folder, identity="x")), STYLE, SCALE)
    found = vllm_answer(folder, requests(encoder, n=2), tmp_path, memory="auto")["samples"]
    assert [len(sample["cot_ids"]) for sample in found] == [SAMPLING.max_new_tokens] * 2
