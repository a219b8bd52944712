"""A model's chat template: a program of the model's that runs in Jinja's sandbox, with nothing of ours but its inputs.

Its only other input is the clock, by `strftime_now`. A prompt that follows the clock is another one after midnight, and
then no judge sees what it was trained on; so the date comes from params.yaml.
"""

import inspect
import logging
from collections.abc import Mapping
from datetime import date as Date
from datetime import datetime
from typing import Any

from tract_core.base.errors import UserError

logger = logging.getLogger(__name__)

_CLOCKS = (datetime(2001, 3, 9, 1, 2, 3, 4), datetime(2030, 12, 24, 17, 58, 49, 670_000))
"""Two moments that differ in whatever can be written of them."""


class ChatTemplate:
    """The template of one tokenizer, with a system text, a date and variables that stay the same."""

    def __init__(self, tokenizer: Any, system: str | None, *, date: str | None, arguments: Mapping[str, Any]) -> None:
        """See Encoder.

        Raises:
            UserError: an argument is none of the template's variables but of the renderer, the template refuses the
                system text, or it writes the date and `date` is None.
        """
        self._tokenizer, self._system = tokenizer, system
        self._arguments = _checked(tokenizer, arguments)
        self._now = _CLOCKS[0] if date is None else datetime.fromisoformat(date)
        if date is None and tokenizer.chat_template:
            self._refuse_a_clock()

    def render(self, user: str, *, answer: str | None = None, **how: bool) -> Any:
        """A conversation of one user turn, and one answer if it is given; `how`: see `apply_chat_template`."""
        return self._render(user, self._now, answer=answer, **how)

    def _render(self, user: str, now: datetime, *, answer: str | None = None, **how: bool) -> Any:
        turns = {"system": self._system, "user": user, "assistant": answer}
        messages = [{"role": role, "content": text} for role, text in turns.items() if text is not None]
        try:
            return self._tokenizer.apply_chat_template(messages, **how, **self._arguments, strftime_now=now.strftime)
        except Exception as error:  # Jinja errors have no common base here
            raise UserError(
                f"the model's chat template refuses the prompt (prompt.system = {self._system!r}): {error}"
            ) from None

    def _refuse_a_clock(self) -> None:
        """Of a prompt and of a whole conversation: a template may write the date into either."""
        ways: list[dict[str, Any]] = [{"add_generation_prompt": True}, {"answer": "x"}]
        if any(len({self._render("x", now, tokenize=False, **how) for now in _CLOCKS}) > 1 for how in ways):
            raise UserError(
                "the model's chat template writes today's date into each prompt, so that every prompt would be another "
                "one after midnight; set prompt.date in params.yaml to the day that it shall write, such as "
                f'"{Date.today().isoformat()}" (in quotes)'
            )


def _checked(tokenizer: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments, of which a model's template may well read fewer than that of another one."""
    taken = {"messages", "strftime_now", *inspect.signature(tokenizer.apply_chat_template).parameters}
    if wrong := sorted(taken & set(arguments)):
        raise UserError(
            f"prompt.template_arguments: {wrong[0]} is set by the renderer and no variable of the template; remove it"
        )
    template = str(tokenizer.chat_template)
    if unread := sorted(name for name in arguments if name not in template):
        logger.warning("prompt.template_arguments: the model's chat template does not read %s", ", ".join(unread))
    return arguments
