import time

import pytest

from tract_core.base.secrets import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:word@host/x, no", "at https://***@host/x, no"),
        ("proxy http://word@host:80", "proxy http://***@host:80"),
        ("two: s3://a:b@c d https://e@f", "two: s3://***@c d https://***@f"),
        (f"https://user:{'w' * 3000}@host", "https://***@host"),
        ("https://host/a@b and a@b", "https://host/a@b and a@b"),
        ("at https://user:w@rd@host/x, no", "at https://***@host/x, no"),
        ("at https://user:w/o?r#d@host/x, no", "at https://***@host/x, no"),
        ("at https://w@rd@host/x, no", "at https://***@host/x, no"),
        ('{"a": "http://host:80/x", "b": "c@d"}', '{"a": "http://host:80/x", "b": "c@d"}'),
        ("GET http://h/x?token=abc&n=2 no", "GET http://h/x?token=***&n=2 no"),
        ("http://h/x?n=2&api_key=abc", "http://h/x?n=2&api_key=***"),
        ("'http://h/?X-Amz-Signature=abc'", "'http://h/?X-Amz-Signature=***'"),
        ("http://h/?sv=1&sig=a%2Fb#top", "http://h/?sv=1&sig=***#top"),
        ("what now? design=4", "what now? design=4"),
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
        ("PGPASSWORD", True),
        ("MY_APIKEY", True),
        ("TOKENS", True),
        ("GITHUB_PAT", True),
        ("DB_PASS", True),
        ("AZURE_CREDENTIALS", True),
        ("MYSQL_PWD", True),
        ("PWD", False),
        ("MY_PATH", False),
        ("COMPASS", False),
        ("BYPASS_CACHE", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("KEYBOARD", False),
    ],
)
def test_the_value_of_a_variable_named_as_a_secret_is_hidden(monkeypatch, name, hidden):
    monkeypatch.setenv(name, "canary-123")
    assert without_secrets("sent canary-123!") == (f"sent [{name}]!" if hidden else "sent canary-123!")


@pytest.mark.parametrize(
    "form",
    [
        "a/b+c canary",  # as it is
        "a%2Fb%2Bc%20canary",  # in a URL's path
        "a%2Fb%2Bc+canary",  # in a URL's query
        "YS9iK2MgY2FuYXJ5",  # base64, in a header
    ],
)
def test_a_secret_is_hidden_in_every_form_in_which_libraries_send_it(monkeypatch, form):
    monkeypatch.setenv("A_SECRET", "a/b+c canary")
    assert without_secrets(f"sent {form}!") == "sent [A_SECRET]!"


@pytest.mark.parametrize(
    "form", ["at http://user:a-pass%2Fword@proxy:80", "with a-pass/word", "with dXNlcjphLXBhc3Mvd29yZA"]
)
def test_the_password_in_the_url_of_a_proxy_is_hidden_alone_too(monkeypatch, form):
    """The last is what stands in the header: user:a-pass/word in base64."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:a-pass%2Fword@proxy:80")
    assert without_secrets(form) in ("at http://***@proxy:80", "at http://[HTTPS_PROXY]@proxy:80", "with [HTTPS_PROXY]")


def test_a_secret_inside_of_a_longer_one_leaves_nothing_of_that(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "canary-1")
    monkeypatch.setenv("B_TOKEN", "canary-1-and-more")
    assert without_secrets("canary-1-and-more, canary-1") == "[B_TOKEN], [A_TOKEN]"


def test_a_short_value_hides_no_word(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "false")
    assert without_secrets("that is false") == "that is false"


@pytest.mark.parametrize(
    "form", ["canary@12/34", "canary%4012%2F34", "http://u:canary@12/34@proxy", "?token=a-canary-5"]
)
def test_what_is_secret_in_the_url_of_a_variable_is_hidden_alone_too(monkeypatch, form):
    monkeypatch.setenv("MY_PROXY", "http://u:canary@12/34@proxy:80")
    monkeypatch.setenv("MY_REMOTE", "http://host/x?token=a-canary-5")
    assert "canary" not in without_secrets(f"sent {form}!")
    assert "a-canary-5" not in without_secrets("sent a-canary-5!")


def test_hiding_takes_no_longer_than_a_text_is_long():
    began = time.monotonic()
    without_secrets("://a:?token" * 100_000)
    without_secrets("://a:" + "b" * 1_000_000)
    assert time.monotonic() - began < 5
