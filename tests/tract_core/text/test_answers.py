"""A prompt and its answer in ids: as a model's makers train on them (mistral-common), as its chat template has them."""

import dataclasses
from pathlib import Path

import pytest
from tokenizers import normalizers

from tests import families
from tests.conftest import HUNDRED, SCALE, STYLE, X, on_scale
from tests.tiny import bpe_tokenizer
from tract_core.text import prompts
from tract_core.text.encoding import Encoder

mistral_common = pytest.importorskip("mistral_common")
DATA = Path(mistral_common.__file__).parent / "data"
COT = "Fine work; it names 2 causes.\n\nIt could say more about the eye (caf\u00e9)."
DIRECT = dataclasses.replace(STYLE, cot=False)
_USER, _ANSWER = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}", "{{ m.content }}{{ eos_token }}"
# v1 has [INST] as plain text, later ones as control tokens; tekken puts no space between them and a text.
SPELLED = _USER + " [INST] {{ m.content }} [/INST]{% else %} " + _ANSWER + "{% endif %}{% endfor %}"
SPACED = _USER + "[INST] {{ m.content }}[/INST]{% else %} " + _ANSWER + "{% endif %}{% endfor %}"
CLOSE = _USER + "[INST]{{ m.content }}[/INST]{% else %}" + _ANSWER + "{% endif %}{% endfor %}"
FILES = {
    "tokenizer.model.v1": SPELLED,
    "mistral_instruct_tokenizer_240216.model.v2": SPACED,
    "mistral_instruct_tokenizer_240323.model.v3": SPACED,
    "mistral_instruct_tokenizer_241114.model.v7": SPACED,
    "mistral_instruct_tokenizer_241114.model.v7m1": SPACED,
    "tekken_240718.json": CLOSE,
    "tekken_240911.json": CLOSE,
}


@pytest.fixture(scope="module", params=FILES)
def mistral(request, tmp_path_factory):
    """A file of mistral-common's, and transformers' own tokenizer of it with a template by its rule."""
    file = DATA / request.param
    if not file.exists():
        pytest.skip(f"this mistral-common has no {request.param}")
    tokenizer = families.from_mistral_common(file, tmp_path_factory.mktemp("tokenizer"))
    tokenizer.chat_template = FILES[request.param]
    return file, tokenizer


@pytest.fixture(scope="module", params=["by rule", "mistral-common's"])
def released(request, mistral):
    """The same with each of two templates: ours, and the one that mistral-common writes for the file."""
    from mistral_common.integrations.chat_templates.chat_templates import convert_tokenizer_to_chat_template

    file, tokenizer = mistral
    own = FILES[file.name]
    tokenizer.chat_template = own if request.param == "by rule" else convert_tokenizer_to_chat_template(file)
    yield file, tokenizer
    tokenizer.chat_template = own


_OPENED = {}


def theirs(file, user, answer):
    """mistral-common's own ids of a conversation."""
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    turns = [UserMessage(content=user), AssistantMessage(content=answer)]
    if file not in _OPENED:
        _OPENED[file] = MistralTokenizer.from_file(str(file), mode=ValidationMode.finetuning)
    return _OPENED[file].encode_chat_completion(ChatCompletionRequest(messages=turns)).tokens


def test_a_training_sequence_has_the_ids_that_mistral_trains_on(released):
    file, tokenizer = released
    encoder = Encoder(tokenizer, STYLE, SCALE)
    example = encoder.training_example("a", encoder.prompt_ids(X), COT, 4)
    assert example.input_ids == theirs(file, prompts.render(X, STYLE), f"{COT}{STYLE.delimiter}4")
    assert encoder.answers_exact


def test_without_cot_the_score_stands_where_mistral_trains_an_answer(released):
    file, tokenizer = released
    encoder = Encoder(tokenizer, DIRECT, SCALE)
    prompt = encoder.prompt_ids(X)
    for score in SCALE.values:
        example = encoder.training_example("a", prompt, None, score)
        assert example.input_ids == theirs(file, prompts.render(X, DIRECT), SCALE.label(score))
        assert example.input_ids[: example.score_position] == encoder.scoring_context(prompt, [])
        assert tokenizer.decode(example.input_ids[example.score_position]) == SCALE.label(score)
    lone = [] if "tekken" in file.name else tokenizer.convert_tokens_to_ids(["\u2581"])
    assert list(encoder.score_tokens.delimiter_ids) == lone


@pytest.mark.parametrize("cot", [True, False])
def test_scores_of_several_tokens_have_the_ids_that_mistral_trains_on(mistral, cot):
    file, tokenizer = mistral
    style, x = on_scale(HUNDRED, cot=cot)
    encoder = Encoder(tokenizer, style, HUNDRED)
    prompt = encoder.prompt_ids(x)
    for score in (0, 7, 10, 42, 100):
        example = encoder.training_example("a", prompt, COT if cot else None, score)
        answer = f"{COT}{STYLE.delimiter}{score}" if cot else str(score)
        assert example.input_ids == theirs(file, prompts.render(x, style), answer)
        assert tokenizer.decode([example.input_ids[place] for place in example.score_places]) == str(score)


def test_the_prompt_ends_at_the_mark_and_a_cot_that_is_learnt_begins_as_one_that_is_sampled(mistral):
    file, tokenizer = mistral
    encoder = Encoder(tokenizer, STYLE, SCALE)
    assert tokenizer.decode(encoder.prompt_ids(X)).endswith("[/INST]")
    ids = encoder.cot_ids(COT)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ("Fine" if "tekken" in file.name else "\u2581Fine")
    assert encoder.decode(ids) == COT
    assert encoder.cot_ids(encoder.decode(ids)) == ids


def whole(tokenizer, style, answer):
    messages = [{"role": "user", "content": prompts.render(X, style)}, {"role": "assistant", "content": answer}]
    return tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]


@pytest.mark.parametrize("family", ["llama3", "gemma", "chatml", "llama2", "mistral"])
def test_prompt_answer_and_end_have_the_ids_of_the_templates_whole_conversation(family):
    tokenizer = families.FAMILIES[family]()
    for style, cot, answer in ((STYLE, COT, f"{COT}{STYLE.delimiter}4"), (DIRECT, None, "4")):
        encoder = Encoder(tokenizer, style, SCALE)
        example = encoder.training_example("a", encoder.prompt_ids(X), cot, 4)
        expected = whole(tokenizer, style, answer)
        assert example.input_ids == expected[: len(example.input_ids)]
        assert tokenizer.decode(expected[len(example.input_ids) :]).strip() == ""
        assert encoder.answers_exact


@pytest.mark.parametrize("family", ["llama3", "gemma", "chatml"])
def test_where_no_space_stands_before_an_answer_nothing_is_put_there(family):
    encoder = Encoder(families.FAMILIES[family](), DIRECT, SCALE)
    assert encoder.cot_ids("Fine.") == encoder.continuation("Fine.")
    assert encoder.score_tokens.delimiter_ids == ()


@pytest.mark.real
def test_adapters_of_the_small_real_model_stay_valid(real_model):
    """The fingerprint that adapters stored before answers were read in context."""
    from tract_core.model import models

    tokenizer = models.load_tokenizer(real_model)
    assert (
        Encoder(tokenizer, STYLE, SCALE).fingerprint()
        == "9e21331f77f5bbe027ada5d56ed9bbf7975d6659e21b54a0e27052e4c08900fa"
    )
    assert (
        Encoder(tokenizer, DIRECT, SCALE).fingerprint()
        == "0e30b41967fb948a6206d1adf42914436bddccf6ef9deb6668a4021cfc238f3f"
    )


def test_an_answer_that_a_control_token_makes_the_start_of_a_text_is_encoded_as_one():
    """A tokenizer that puts a space before each text between control tokens, with a template that has none."""
    tokenizer = families.mistral()
    core = tokenizer.backend_tokenizer
    core.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.chat_template = CLOSE
    encoder = Encoder(tokenizer, DIRECT, SCALE)
    example = encoder.training_example("a", encoder.prompt_ids(X), None, 4)
    assert example.input_ids == whole(tokenizer, DIRECT, "4")
    assert tokenizer.convert_ids_to_tokens(encoder.score_tokens.delimiter_ids) == ["\u2581"]


@pytest.mark.parametrize(
    ("between", "lead"),
    [("", ""), (" ", " "), ("{{ '\n' }}", "\n"), ("<think>\n\n</think>\n\n", ""), ("{{ bos_token }}", "")],
)
def test_only_white_space_between_prompt_and_answer_belongs_to_the_answer(between, lead):
    """What else a template puts there, such as an empty block of thoughts, is the model's to write."""
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|start|>"})
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|start|>{{ m.content }}<|end|><|start|>{% else %}"
        + between
        + "{{ m.content | trim }}<|end|>{% endif %}{% endfor %}"
    )
    encoder = Encoder(tokenizer, STYLE, SCALE)
    assert tokenizer.decode(encoder.cot_ids("Fine.")) == f"{lead}Fine."
    exact = "think" not in between and "bos" not in between
    assert encoder.answers_exact is exact
    plain = Encoder(tokenizer, DIRECT, SCALE)
    assert tokenizer.decode(plain.score_tokens.delimiter_ids).strip() == ""
    assert plain.answers_exact is exact


def test_another_answer_rule_is_another_fingerprint():
    tokenizer = families.mistral()
    tokenizer.chat_template = SPACED
    spaced = Encoder(tokenizer, STYLE, SCALE)
    before = spaced.score_tokens
    tokenizer.chat_template = SPACED.replace("{% else %} ", "{% else %}")
    close = Encoder(tokenizer, STYLE, SCALE)
    assert close.score_tokens == before
    assert close.cot_ids("Fine.") != spaced.cot_ids("Fine.")
    assert close.fingerprint() != spaced.fingerprint()
