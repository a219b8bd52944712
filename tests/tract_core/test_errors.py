import pytest

from tract_core.errors import list_some, without_secrets


def test_a_long_list_is_cut_and_counted():
    assert list_some(["a", "b", "c"], limit=2) == "  a\n  b\n  ... and 1 more"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:word@host/x, no", "at https://***@host/x, no"),
        ("proxy http://word@host:80", "proxy http://***@host:80"),
        ("two: s3://a:b@c d https://e@f", "two: s3://***@c d https://***@f"),
        ("https://host/a@b and a@b", "https://host/a@b and a@b"),
        ("nothing", "nothing"),
    ],
)
def test_user_and_password_of_a_url_are_hidden(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("HF_TOKEN", True),
        ("OPENAI_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("my_password", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
    ],
)
def test_the_value_of_a_variable_named_as_a_secret_is_hidden(monkeypatch, name, hidden):
    monkeypatch.setenv(name, "canary-123")
    assert without_secrets("sent canary-123!") == (f"sent [{name}]!" if hidden else "sent canary-123!")


def test_a_short_value_hides_no_word(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "false")
    assert without_secrets("that is false") == "that is false"
