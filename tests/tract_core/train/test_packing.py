import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from tests.architectures import make_model
from tests.tract_core.train.conftest import in_float64
from tract_core.base.errors import UserError
from tract_core.train import packing

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LENGTHS = (11, 3, 20)


def llama():
    torch.manual_seed(0)
    return in_float64(LlamaForCausalLM(LlamaConfig(**SHAPE)))


def windowed():
    """Each token of the longest sequence sees 6 tokens in a layer."""
    torch.manual_seed(0)
    return in_float64(MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=6)))


def sequences():
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(2, 64, (1, length), generator=draw) for length in LENGTHS]


def packed_logits(model):
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    return model(
        input_ids=torch.cat(sequences(), dim=1), position_ids=positions, lengths=LENGTHS, use_cache=False
    ).logits[0]


@pytest.mark.parametrize("make", [llama, windowed])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_sequences_have_the_logits_and_gradients_of_each_alone(make, checkpointing):
    alone, packed = make(), make()
    expected = torch.cat([alone(input_ids=ids, use_cache=False).logits[0] for ids in sequences()])
    packing.use(packed)
    packed.train()
    if checkpointing:
        packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = packed_logits(packed)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    for logits in (expected, found):
        logits.logsumexp(-1).sum().backward()
    for (name, ours), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() <= 1e-10 * theirs.grad.norm(), name


SHARED = 9


def with_shared(ids):
    """The sequences above, all behind the same tokens."""
    return [torch.cat([torch.arange(2, 2 + SHARED)[None], one], dim=1) for one in ids]


@pytest.mark.parametrize("make", [llama, windowed])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_sequences_behind_shared_tokens_have_the_logits_and_gradients_of_each_whole(make, checkpointing):
    alone, packed = make(), make()
    whole = [alone(input_ids=ids, use_cache=False).logits[0] for ids in with_shared(sequences())]
    # The shared tokens predict what they predict once; in each whole sequence they do it again.
    expected = torch.cat([whole[0][:SHARED], *(logits[SHARED:] for logits in whole)])
    packing.use(packed)
    packed.train()
    if checkpointing:
        packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    positions = [torch.arange(SHARED), *(torch.arange(SHARED, SHARED + length) for length in LENGTHS)]
    found = packed(
        input_ids=torch.cat([torch.arange(2, 2 + SHARED)[None], *sequences()], dim=1),
        position_ids=torch.cat(positions)[None],
        lengths=LENGTHS,
        shared=SHARED,
        use_cache=False,
    ).logits[0]
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    for logits in (expected, found):
        logits[SHARED:].logsumexp(-1).sum().backward()
    for (name, ours), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        assert (ours.grad - theirs.grad).norm() <= 1e-10 * theirs.grad.norm(), name


def test_a_window_shorter_than_a_sequence_is_kept():
    near, far = windowed(), llama()
    for model in (near, far):
        packing.use(model)
    far.load_state_dict(near.state_dict())
    before, behind = (packed_logits(model)[-20:] for model in (near, far))
    assert torch.allclose(before[:6], behind[:6])
    assert not torch.allclose(before[6:], behind[6:])


def test_models_that_keep_sequences_apart_are_proved():
    for make in (llama, windowed):
        model = make()
        packing.use(model)
        packing.prove(model, 512, together=True)


def test_a_recurrence_that_runs_into_the_next_sequence_is_caught():
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4))
    packing.use(model)
    with pytest.raises(UserError, match=r"carry something from one sequence .* train\.micro_batch_size: 1"):
        packing.prove(model, 512, together=True)


def test_an_architecture_without_replaceable_attention_is_refused():
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(UserError, match="BloomForCausalLM: its attention cannot be replaced"):
        packing.use(model)


@pytest.mark.parametrize(
    "family", ["gemma2", "gemma3", "gemma3_text", "gemma4", "gpt2", "gpt_oss", "mixtral", "opt", "qwen2", "qwen3_moe"]
)
def test_each_architecture_attends_as_by_its_own_code_also_in_packs(family):
    """Sinks (gpt_oss) and a cap on the logits (gemma2) are nothing that SDPA knows."""
    model = make_model(family)
    packing.use(model)
    packing.prove(model, 512, together=True)


@pytest.mark.parametrize("given", [{"s_aux": torch.zeros(4)}, {"softcap": 2.0}, {"position_bias": torch.zeros(1)}])
def test_what_sdpa_would_drop_is_refused_where_a_model_has_no_code_of_its_own(given):
    heads = torch.zeros(1, 4, 8, 2)
    with pytest.raises(UserError, match=rf"its attention takes \['{next(iter(given))}'\], which SDPA drops"):
        packing.attend(torch.nn.Linear(1, 1), heads, heads, heads, None, lengths=(8,), scaling=1.0, **given)


def test_an_argument_without_a_value_is_no_argument():
    heads = torch.ones(1, 4, 8, 2)
    packing.attend(torch.nn.Linear(1, 1), heads, heads, heads, None, lengths=(8,), softcap=None)


def test_chunked_attention_is_refused_where_a_sequence_can_be_longer_than_a_chunk():
    model = make_model("llama4_text")  # chunks of 16
    packing.use(model)
    packing.prove(model, 16, together=True)
    with pytest.raises(UserError, match=r"Llama4ForCausalLM has an attention .* off by .*; lower model\.max_length"):
        packing.prove(model, 512, together=False)


@pytest.mark.parametrize(
    ("family", "what"),
    [
        ("doge", "DogeAttention makes a mask of its own"),
        ("nemotron", "NemotronAttention does not pass on the lengths of sequences"),
        ("stablelm", "StableLmAttention does not pass on the lengths of sequences"),
    ],
)
def test_a_layer_that_keeps_sequences_from_its_attention_is_refused_by_name(family, what):
    model = make_model(family)
    packing.use(model)
    with pytest.raises(UserError, match=f"{what}, so its model cannot be trained here"):
        packing.prove(model, 512, together=False)


LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [9.0] * 4, "rope_theta": 1e4}
FOLLOWING = {
    "longrope": {**LONGROPE, "original_max_position_embeddings": 48},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
}


@pytest.mark.parametrize("rope", FOLLOWING)
def test_positions_that_follow_the_longest_of_a_pack_demand_packs_of_one(rope):
    model = make_model("llama", max_position_embeddings=48, rope_parameters=FOLLOWING[rope])
    packing.use(model)
    packing.prove(model, 48, together=True)
    packing.prove(model, 512, together=False)
    with pytest.raises(UserError, match=rf"rope type {rope}\) .* than 48 tokens; set train\.micro_batch_size: 1"):
        packing.prove(model, 512, together=True)


def test_other_positions_do_not():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48, "rope_theta": 1e4}
    model = make_model("llama", max_position_embeddings=192, rope_parameters=yarn)
    packing.use(model)
    packing.prove(model, 512, together=True)
