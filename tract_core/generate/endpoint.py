"""A model behind an OpenAI-compatible server: one chat completion for each question, and no key in what is said.

The key is read from the environment when the client is made; it is never stored, logged or shown.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tract_core.base.config import Endpoint
from tract_core.base.errors import UserError

Messages = Sequence[dict[str, str]]
"""The turns of a conversation, each with `role` and `content`."""
_RETRIES = 5
"""Of a request after a rate limit, a server error or a lost connection: its waits grow to 8 seconds, 15 in all, or are
those that the server asks for."""


class RefusedError(UserError):
    """The server refused this one question, as it does with one that is too long or that its filter holds back."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of a reply."""

    text: bytes
    """A token may hold a part of a character."""
    alternatives: dict[bytes, float]
    """Probabilities at its place: those of the most probable tokens, and its own."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model answered."""

    text: str
    is_cut: bool
    """Whether it ends at a limit on its length."""
    num_tokens: int
    """As the server counts them; 0 where it does not."""
    tokens: list[Token]
    """Empty where they were not asked for, or the server gives none."""


class Client:
    """Asks an endpoint; may be used by several threads."""

    def __init__(self, endpoint: Endpoint, who: str) -> None:
        """`who` asks, for messages: `the meta-judge`.

        Raises:
            UserError: the environment variable with the key is not set, or `openai` is not installed.
        """
        self._endpoint, self._who = endpoint, who
        self._key = os.environ.get(endpoint.key_variable, "").strip()
        if not self._key:
            raise UserError(
                f"{who} needs an API key: set the environment variable {endpoint.key_variable} "
                "(to any text where the server asks for none)"
            )
        try:
            import openai
        except ImportError:
            raise UserError(f"{who} needs the package openai: pip install openai") from None
        self._openai = openai
        self._client = openai.OpenAI(base_url=endpoint.base_url, api_key=self._key, max_retries=_RETRIES)

    def complete(self, messages: Messages, *, num_alternatives: int = 0) -> Reply:
        """The reply to a conversation; with `num_alternatives` also its tokens, with that many at each place.

        Raises:
            RefusedError: the server refuses this question.
            UserError: it cannot be reached, refuses the key or the model, or answers with something else.
        """
        openai, temperature = self._openai, self._endpoint.temperature
        more: dict[str, Any] = {"logprobs": True, "top_logprobs": num_alternatives} if num_alternatives else {}
        try:
            completion: Any = self._client.chat.completions.create(
                model=self._endpoint.model,
                messages=list(messages),  # type: ignore[arg-type]
                temperature=openai.omit if temperature is None else temperature,
                **more,
            )
            return self._read(completion)
        except (openai.OpenAIError, AttributeError, IndexError, TypeError) as error:
            kind = RefusedError if isinstance(error, openai.BadRequestError) else UserError
            # Servers have echoed headers in errors; the traceback of the cause would show them too.
            raise kind(
                f"{self._who}'s endpoint gave no chat completion for the model {self._endpoint.model!r}: "
                f"{type(error).__name__}: {self._without_key(str(error))[:300]}; "
                "check base_url, model and key, then run again: replies so far are kept"
            ) from None

    def _read(self, completion: Any) -> Reply:
        choice = completion.choices[0]
        content = getattr(choice.logprobs, "content", None) or []
        # JSON can hold half a surrogate pair, and no file of ours can.
        text = (choice.message.content or "").encode(errors="replace").decode()
        return Reply(
            text=self._without_key(text),
            is_cut=choice.finish_reason == "length",
            num_tokens=getattr(completion.usage, "completion_tokens", None) or 0,
            tokens=[Token(text=_bytes(one), alternatives=_alternatives(one)) for one in content],
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[API key]")


def _alternatives(token: Any) -> dict[bytes, float]:
    return {_bytes(one): math.exp(one.logprob) for one in (token, *(token.top_logprobs or []))}


def _bytes(token: Any) -> bytes:
    given = getattr(token, "bytes", None)
    return token.token.encode(errors="replace") if given is None else bytes(given)
