"""The external judge is asked by its own protocol."""

import pytest

from pipeline import preset
from tests.conftest import X
from tests.tiny import CHAT_TEMPLATE, bpe_tokenizer
from tract_core.generate import generators

NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT_TEMPLATE


@pytest.fixture
def asked(monkeypatch):
    def text(chat_template, system):
        """The first prompt's text, and the fingerprint of its encoder."""
        tokenizer = bpe_tokenizer()
        tokenizer.chat_template = chat_template
        monkeypatch.setattr(generators.models, "load_tokenizer", lambda _: tokenizer)
        params = preset.load("tiny-paper")
        external = params.external.model_copy(update={"system": system})
        encoder = generators._external_encoder(external, None, params.prompt, params.scale)
        return tokenizer.decode(encoder.prompt_ids(X)), encoder.fingerprint()

    return text


def test_its_system_text_is_a_system_turn_where_its_template_has_one(asked):
    text, _ = asked(CHAT_TEMPLATE, "Judge fairly.")
    assert text.index("system\nJudge fairly.") < text.index("user\n")


def test_it_stands_before_the_users_text_where_the_template_refuses_one(asked):
    text, fingerprint = asked(NO_SYSTEM, "Judge fairly.\n")
    assert "user\nJudge fairly.\n" in text
    assert fingerprint != asked(NO_SYSTEM, None)[1] != asked(NO_SYSTEM, "Judge well.")[1]
    assert asked(NO_SYSTEM, None)[0] == text.replace("Judge fairly.\n", "")
