"""Templates with a clock, as those of Llama 3.2, Mistral Small 3 and Granite, and with variables, as that of Qwen 3."""

import datetime

import pytest
from transformers.utils import chat_template_utils

from tests.conftest import SCALE, STYLE, X
from tests.tiny import CHAT_TEMPLATE, bpe_tokenizer
from tract_core.base.errors import UserError
from tract_core.text.encoding import Encoder

LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "<|start|>system\nToday Date: {{ date_string }}<|end|>\n" + CHAT_TEMPLATE
)
MISTRAL = "{%- set today = strftime_now('%Y-%m-%d') %}<|start|>system\nThe current date is {{ today }}.<|end|>\n"
CLOCKS = {
    "llama": LLAMA,
    "mistral": MISTRAL + CHAT_TEMPLATE,
    "hour": "<|start|>{{ strftime_now('%H') }}<|end|>" + CHAT_TEMPLATE,
    "weekday": "<|start|>{{ strftime_now('%A') }}<|end|>" + CHAT_TEMPLATE,
    "only with an answer": CHAT_TEMPLATE + "{% if not add_generation_prompt %}{{ strftime_now('%j') }}{% endif %}",
}
THINKING = CHAT_TEMPLATE + (
    "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}(none)\n{% endif %}"
)


def tokenizer_with(template):
    tokenizer = bpe_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", CLOCKS.values(), ids=CLOCKS)
def test_a_template_with_a_clock_demands_a_date_and_suggests_one(template):
    today = datetime.date.today().isoformat()
    with pytest.raises(UserError, match=rf'set prompt\.date in params\.yaml .* such as "{today}"'):
        Encoder(tokenizer_with(template), STYLE, SCALE)


@pytest.mark.parametrize("template", CLOCKS.values(), ids=CLOCKS)
def test_prompts_and_fingerprints_do_not_change_at_midnight(template, monkeypatch):
    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 7, 14, 5, 6, 7)

    def encoder():
        return Encoder(tokenizer_with(template), STYLE, SCALE, date="2025-01-31")

    before = encoder()
    expected = before.prompt_ids(X), before.stop_ids, before.fingerprint(), before.template_exact
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    after = encoder()
    assert (after.prompt_ids(X), after.stop_ids, after.fingerprint(), after.template_exact) == expected
    assert after.template_exact


def test_the_date_stands_in_the_prompt_and_in_the_fingerprint():
    day, next_day = (Encoder(tokenizer_with(LLAMA), STYLE, SCALE, date=f"2025-01-{n}") for n in (30, 31))
    assert "Today Date: 31 Jan 2025" in next_day.tokenizer.decode(next_day.prompt_ids(X))
    assert day.fingerprint() != next_day.fingerprint()


def test_a_date_changes_nothing_where_the_template_has_no_clock(encoder):
    dated = Encoder(bpe_tokenizer(), STYLE, SCALE, date="2025-01-31")
    assert (dated.prompt_ids(X), dated.fingerprint()) == (encoder.prompt_ids(X), encoder.fingerprint())


def test_a_variable_of_the_template_can_stand_for_the_date():
    encoder = Encoder(tokenizer_with(LLAMA), STYLE, SCALE, arguments={"date_string": "26 Jul 2024"})
    assert "Today Date: 26 Jul 2024" in encoder.tokenizer.decode(encoder.prompt_ids(X))


def test_template_arguments_reach_the_template_and_the_fingerprint():
    quiet = Encoder(tokenizer_with(THINKING), STYLE, SCALE, arguments={"enable_thinking": False})
    usual = Encoder(tokenizer_with(THINKING), STYLE, SCALE)
    assert quiet.tokenizer.decode(quiet.prompt_ids(X)).endswith("assistant\n(none)\n")
    assert usual.tokenizer.decode(usual.prompt_ids(X)).endswith("assistant\n")
    assert quiet.template_exact
    assert quiet.fingerprint() != usual.fingerprint()


@pytest.mark.parametrize("name", ["chat_template", "add_generation_prompt", "messages", "strftime_now", "tools"])
def test_what_the_renderer_sets_is_no_argument_of_the_template(name):
    with pytest.raises(UserError, match=f"template_arguments: {name} is set by the renderer"):
        Encoder(bpe_tokenizer(), STYLE, SCALE, arguments={name: "x"})


def test_an_argument_that_the_template_does_not_read_is_named(caplog):
    Encoder(tokenizer_with(THINKING), STYLE, SCALE, arguments={"enable_thinkng": False})
    assert "does not read enable_thinkng" in caplog.text
