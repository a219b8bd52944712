"""Examples -> token ids. A sequence is assembled from segments of ids:

    [chat prefix][user turn, suffix][CoT][delimiter][score][end of turn]

(without CoT and delimiter for a judge that writes none), so the score's place is known by construction and
nothing is ever searched for in content. The prompt ends where the template's generation prompt ends. White space that
the template puts between it and an answer, as Mistral's does, belongs to the answer, as in what these models were
trained on: a CoT begins with `▁Fine` whether it was learnt or is sampled, and a judge without CoT is read behind
that white space, where it is a token of its own. Text that comes from data (instruction, response, reference, rubric,
CoT) is encoded so that no control token can appear in it: what spells
`<|im_end|>` in a response becomes ordinary tokens. A CoT that the model writes itself ends before its first
control token.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tract_core.base.config import Prompt, Scale
from tract_core.base.errors import UserError
from tract_core.base.scale import ScoreScale, ScoreTokens, prove_score_tokens
from tract_core.base.tables import content_hash
from tract_core.text import prompts
from tract_core.text.chat_template import ChatTemplate
from tract_core.text.prompts import JudgeInput, PromptStyle

# Text is encoded after an anchor, as it stands in a sequence, and the anchor's ids are taken off again.
# One that the tokenizer does not fuse with the text is chosen, so several are needed.
_ANCHORS = ("\n", ".", "x")
_SENTINEL = "judge-content-goes-here"
# Private use, a rare ideograph, a hieroglyph: what becomes the unknown token in a vocabulary that has one for text.
_MAX_HIDDEN = 1_000  # each costs a search through the rest of the text
_RARE = "\U0010fffd\u3402\U00013000"


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One training sequence. The score's tokens begin at `input_ids[score_position]`; the end token follows them."""

    id: str
    input_ids: list[int]
    num_prompt: int
    score_position: int
    gold: float
    """The mean of the gold scores; the score's tokens are those of `ScoreScale.written`."""
    gold_shares: tuple[float, ...] = ()
    """The share of each score of Y in the gold scores, in the order of the scale; all on `gold` where it is empty."""
    task: str = ""
    """Examples of one task belong together where `train.order` says so."""
    advantage: float | None = None
    """Of a CoT that the judge itself drew: how much better than others it did; None: of another's CoT."""
    num_drawn: int | None = None
    """How many of the tokens behind the prompt the judge drew; the delimiter is not among them where it was added."""
    drawn_log_probs: tuple[float, ...] = ()
    """Of each drawn token its log-probability at the draw, where that is read."""

    @property
    def ce_end(self) -> int:
        """Where the tokens that always carry cross-entropy end."""
        return self.score_position if self.num_drawn is None else self.num_prompt + self.num_drawn

    @property
    def is_soft(self) -> bool:
        """Whether its gold is more than one score of Y."""
        return max(self.gold_shares, default=1.0) < 1

    @property
    def num_cot(self) -> int:
        """CoT and delimiter tokens: what cross-entropy always covers."""
        return self.score_position - self.num_prompt

    @property
    def score_places(self) -> range:
        """Where the score's tokens stand."""
        return range(self.score_position, len(self.input_ids) - 1)


class Encoder:
    """The one renderer of training, sampling and scoring, for one tokenizer, prompt style and scale."""

    def __init__(
        self,
        tokenizer: Any,
        style: PromptStyle,
        scale: ScoreScale,
        system: str | None = None,
        *,
        date: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Prove the score tokens and take the chat template apart.

        Args:
            tokenizer: of the model.
            style: what the user turn looks like.
            scale: Y.
            system: the system text; None: what the chat template adds by itself.
            date: the chat template's today, as 2025-01-31.
            arguments: variables of the chat template.

        Raises:
            UserError: a score is not provable, the tokenizer has no end token, or the chat template refuses the
                system text, or writes the date and is given none.
        """
        self.tokenizer, self.style, self.scale = tokenizer, style, scale
        self._template = ChatTemplate(tokenizer, system, date=date, arguments=arguments or {})
        self._control = _control_tokens(tokenizer)
        self.control_ids = frozenset(self._control.values())
        """Ids that never stand in content, nor in a CoT that was drawn."""
        names = [re.escape(name) for name in self._control if len(name) > 1]
        self._spelled = re.compile(f"(?={'|'.join(names)})" if names else "(?!)")
        self._frame = _chat_frame(tokenizer, self._template, self._control) if tokenizer.chat_template else None
        # Tokenizers differ in whether text after a control token counts as the start of a text.
        self._starts_alone = self._frame is None or self._matches_template(alone=True)
        self._lead = self._find_lead()
        self._answers_alone = not self._answers_match(alone=False) and self._answers_match(alone=True)
        self.score_tokens: ScoreTokens = self._prove_score_tokens()
        self._end_id = self._find_end_id()
        self._tokens = dict[int, int]()
        """One object for each token that examples hold: a list then takes 8 bytes a token, and else some 30."""

    @classmethod
    def create(cls, tokenizer: Any, prompt: Prompt, scale: Scale, *, cot: bool = True, head: str = "") -> "Encoder":
        """From the sections `prompt` and `scale` of params.yaml; `cot`, `head`: see PromptStyle."""
        score_scale = ScoreScale.create(scale.values, scale.labels)
        style = PromptStyle(
            source=prompt.source,
            format_text=prompt.format_text,
            use_reference=prompt.use_reference,
            delimiter=prompt.delimiter,
            labels=score_scale.labels,
            cot=cot,
            head=head,
        )
        arguments = prompt.template_arguments
        return cls(tokenizer, style, score_scale, prompt.system, date=prompt.date, arguments=arguments)

    @property
    def score_length(self) -> int:
        """Tokens of the delimiter and of the longest score behind it."""
        return len(self.score_tokens.delimiter_ids) + self.score_tokens.trie.depth + 1

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a CoT: end of turn and end of text."""
        eos = self.tokenizer.eos_token_id
        return sorted({self._end_id} | ({eos} if eos is not None else set()))

    def prompt_ids(self, x: JudgeInput) -> list[int]:
        """[chat prefix][user turn, suffix]: what the model continues with a CoT."""
        return self._turn(prompts.render(x, self.style))

    def turn_ids(self, text: str) -> list[int]:
        """The same for a prompt that is rendered already."""
        return self._turn(text)

    def cot_ids(self, cot: str) -> list[int]:
        """A CoT's ids as they follow the prompt; without a chat template a space separates the two."""
        return self._answer(cot, alone=self._answers_alone)

    def training_example(
        self,
        id: str,
        prompt_ids: Sequence[int],
        cot: str | None,
        gold: float,
        task: str = "",
        *,
        gold_scores: Sequence[float] = (),
    ) -> Encoded:
        """The whole sequence for one row, after its `prompt_ids`; without a CoT where `cot` is None.

        It ends with the score of the largest share in `gold_scores`, those whose mean is `gold`; without them with
        `gold` itself.

        Raises:
            ValueError: gold is not in Y where no scores are given, a score is outside the range of Y, or a CoT is given
                to a judge without CoT, or missing for one with it.
        """
        if (cot is not None) != self.style.cot:
            raise ValueError(f"example {id}: style.cot is {self.style.cot}, but the CoT is {cot!r}")
        cot_ids = [] if cot is None else self.cot_ids(cot)
        return self._sequence(id, prompt_ids, cot_ids, gold, task, gold_scores=gold_scores)

    def drawn_example(
        self,
        id: str,
        prompt_ids: Sequence[int],
        cot_ids: Sequence[int],
        gold: float,
        task: str = "",
        *,
        gold_scores: Sequence[float] = (),
        ended: bool,
        advantage: float,
        log_probs: Sequence[float] = (),
    ) -> Encoded:
        """The whole sequence for a CoT that the judge itself drew, of the very ids that were drawn.

        `ended`: whether it wrote the delimiter, which is then learned from as well; the other arguments as of
        `training_example` and `Encoded`.
        """
        sequence = self._sequence(id, prompt_ids, cot_ids, gold, task, gold_scores=gold_scores)
        return dataclasses.replace(
            sequence,
            advantage=advantage,
            num_drawn=len(self.drawn_ids(cot_ids, ended=ended)),
            drawn_log_probs=tuple(log_probs),
        )

    def drawn_ids(self, cot_ids: Sequence[int], *, ended: bool) -> list[int]:
        """What a judge drew behind its prompt: a CoT, and the delimiter where it wrote one."""
        return [*cot_ids, *(self.score_tokens.delimiter_ids if ended else [])]

    def _sequence(
        self,
        id: str,
        prompt_ids: Sequence[int],
        cot_ids: Sequence[int],
        gold: float,
        task: str,
        *,
        gold_scores: Sequence[float],
    ) -> Encoded:
        before_score = self.scoring_context(prompt_ids, cot_ids)
        written = self.scale.written(gold_scores) if gold_scores else gold
        score_ids = self.score_tokens.label_paths[self.scale.index(written)]
        return Encoded(
            id=id,
            input_ids=[self._tokens.setdefault(token, token) for token in (*before_score, *score_ids, self._end_id)],
            num_prompt=len(prompt_ids),
            score_position=len(before_score),
            gold=float(gold),
            gold_shares=self.scale.distribution(gold_scores or [gold]),
            task=task,
        )

    def scoring_context(self, prompt_ids: Sequence[int], cot_ids: Sequence[int]) -> list[int]:
        """What the score is read behind: prompt, CoT, delimiter."""
        return [*prompt_ids, *cot_ids, *self.score_tokens.delimiter_ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> text without control tokens and without white space at the ends."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def cut_at_delimiter(self, ids: Sequence[int]) -> tuple[list[int], bool]:
        """Whole tokens before the first delimiter in generated ids, and whether one was found."""
        stop = self.style.delimiter.strip()
        text = self._raw_text(ids)
        place = text.find(stop)
        if place < 0:
            return list(ids), False
        keep = next(n for n in range(len(ids), -1, -1) if len(self._raw_text(ids[:n])) <= place)
        return list(ids[:keep]), True

    def before_control(self, ids: Sequence[int]) -> list[int]:
        """Generated ids before the first control token.

        What a model writes after a turn's end, or as another role, is no part of its CoT, and training and scoring
        never show it a control token there. Tokens are compared, not text: a CoT may spell `<|im_end|>`.
        """
        return list(itertools.takewhile(lambda token: token not in self.control_ids, ids))

    def continuation(self, text: str) -> list[int]:
        """Content's ids where something stands before it; never a control token.

        Raises:
            UserError: the text holds a character that is a control token in itself, or the tokenizer joins the
                text's beginning with whatever stands before it.
        """
        return self._content(text, self._after_anchor)

    def fingerprint(self) -> str:
        """A hash of all that decides how an example becomes ids."""
        return content_hash(
            {
                "vocabulary": self.tokenizer.get_vocab(),
                "chat_template": self.tokenizer.chat_template,
                "probe": self._turn("A probe: 3.5 <b>caf\u00e9</b>\n\n  ###Feedback:"),
                "score_tokens": [self.score_tokens.delimiter_ids, self.score_tokens.plain_ids],
                "style": [
                    self.style.source,
                    self.style.format_text,
                    self.style.use_reference,
                    self.style.delimiter,
                    self.style.cot,
                    *([self.style.head] if self.style.head else []),
                ],
                **self._answer_rule(),
            }
        )

    @property
    def template_exact(self) -> bool:
        """Whether a prompt's ids equal what the tokenizer's own `apply_chat_template` gives."""
        return self._frame is None or self._matches_template(alone=self._starts_alone)

    @property
    def answers_exact(self) -> bool:
        """Whether a prompt and an answer behind it have the ids that `apply_chat_template` gives the conversation."""
        return self.template_exact and self._answers_match(alone=self._answers_alone)

    def _prove_score_tokens(self) -> ScoreTokens:
        """A score stands after the delimiter, or without CoT where an answer stands."""
        if self.style.cot:
            return prove_score_tokens(self.continuation, self.scale, self.style.delimiter)
        return prove_score_tokens(self._alone if self._answers_alone else self.continuation, self.scale, self._lead)

    def _answer(self, text: str, *, alone: bool) -> list[int]:
        return (self._alone if alone else self.continuation)(self._lead + text)

    def _answer_rule(self) -> dict[str, Any]:
        """For the fingerprint; empty where an answer follows the prompt as text does, as in all judges of old."""
        if self._frame is None or not (self._lead or self._answers_alone):
            return {}
        return {"answer": [self._lead, self._answers_alone]}

    def _find_lead(self) -> str:
        """The white space between prompt and answer; without chat template a space.

        More than white space, such as an empty block of thoughts, is the model's to write.
        """
        if self._frame is None:
            return " "
        prompt = self._template.render("x", tokenize=False, add_generation_prompt=True)
        whole = self._template.render("x", answer=_SENTINEL, tokenize=False)
        lead: str = whole[len(prompt) :].partition(_SENTINEL)[0] if whole.startswith(prompt) else ""
        return "" if lead.strip() else lead

    def _answers_match(self, *, alone: bool) -> bool:
        """Whether answers, words and scores, have the ids that the template's conversations have behind the prompt."""
        if self._frame is None:
            return not alone
        prompt = list(self._template.render("x", add_generation_prompt=True, return_dict=True)["input_ids"])
        for answer in ("Fine.", *self.scale.labels):
            whole = self._template.render("x", answer=answer, return_dict=True)["input_ids"]
            expected = [*prompt, *self._answer(answer, alone=alone)]
            if list(whole[: len(expected)]) != expected:
                return False
        return True

    def _turn(self, text: str) -> list[int]:
        if self._frame is None:
            bos = self.tokenizer.bos_token_id if _adds_bos(self.tokenizer) else None
            return [*([] if bos is None else [bos]), *self._alone(text)]
        return self._framed(text, alone=self._starts_alone)

    def _framed(self, text: str, *, alone: bool) -> list[int]:
        assert self._frame is not None
        middle = self._frame.text_before + text + self._frame.text_after
        body = self._alone(middle) if alone else self.continuation(middle)
        ids = [*self._frame.ids_before, *body, *self._frame.ids_after]
        bos = self.tokenizer.bos_token_id
        return [bos, *ids] if bos is not None and _adds_bos(self.tokenizer) and ids[0] != bos else ids

    def _matches_template(self, *, alone: bool) -> bool:
        benign = "Rate this, please."
        expected = self._template.render(benign, add_generation_prompt=True, return_dict=True)["input_ids"]
        return self._framed(benign, alone=alone) == list(expected)

    def _find_end_id(self) -> int:
        """The first control token after an assistant turn, or the end-of-text token."""
        if self._frame is not None:
            tail = self._template.render("x", answer=_SENTINEL, tokenize=False).rpartition(_SENTINEL)[2]
            places = {name: tail.find(name) for name in self._control if name in tail}
            if places:
                return self._control[min(places, key=lambda name: (places[name], -len(name)))]
        if self.tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-text token (eos_token), so a CoT could never end")
        return int(self.tokenizer.eos_token_id)

    def _raw_text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _plain_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )["input_ids"]
        return ids

    def _alone(self, text: str) -> list[int]:
        """Content's ids at the start of a text."""
        return self._content(text, self._plain_ids)

    def _content(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        """The text's ids, encoded in pieces where it would hold a control token as a whole.

        Only ids without a control token are returned, whatever the tokenizer does: it may match a spelling after
        normalising the text, as a whole word, with the white space around it, or merge its way to one. Each cut
        leaves shorter pieces, so this ends, and a piece continues the one before it.
        """
        ids, waiting, num_hidden = list[int](), [(text, encode)], 0
        while waiting:
            piece, how = waiting.pop()
            found = how(piece)
            if self.control_ids.isdisjoint(found):
                ids += found
                continue
            cuts = [match.start() + 1 for match in self._spelled.finditer(piece)]
            if not cuts:
                num_hidden += 1
                if num_hidden > _MAX_HIDDEN:
                    raise UserError(
                        f"cannot encode {text[:60]!r}: over {_MAX_HIDDEN} control tokens in other spellings"
                    )
                cuts = [self._hidden_cut(piece, how)]
            first, *rest = (piece[start:end] for start, end in itertools.pairwise([0, *cuts, len(piece)]))
            waiting += [*((part, self._after_anchor) for part in reversed(rest)), (first, how)]
        return ids

    def _hidden_cut(self, text: str, encode: Callable[[str], list[int]]) -> int:
        """A place inside the first control token that is spelled otherwise than by its name."""
        free, full = 0, len(text)  # text[:free] has no control token, text[:full] has one
        while full - free > 1:
            middle = (free + full) // 2
            free, full = (middle, full) if self.control_ids.isdisjoint(encode(text[:middle])) else (free, middle)
        if free == 0:
            raise UserError(f"cannot encode {text[:60]!r}: {text[0]!r} is a control token in itself; remove it")
        return free

    def _after_anchor(self, text: str) -> list[int]:
        for anchor in _ANCHORS:
            head, ids = self._plain_ids(anchor), self._plain_ids(anchor + text)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        raise UserError(f"cannot encode {text[:60]!r} in context: the tokenizer fuses it with whatever stands before")


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The chat template around the content: control tokens as ids, plain text next to the content as text."""

    ids_before: list[int]
    text_before: str
    text_after: str
    ids_after: list[int]


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """Text -> id of special tokens, and of added tokens that are more than white space or one character.

    The unknown token is left out where rare text becomes it: it commands nothing, and content may well hold one.
    Elsewhere its name is often another one's (`<|endoftext|>` in GPT-2's and SmolLM2's tokenizers).
    """
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    control = {**{text: index for text, index in added.items() if len(text.strip()) > 1}, **special}
    rare = tokenizer(_RARE, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    unknown = {tokenizer.unk_token_id} & set(rare) - {tokenizer.bos_token_id, tokenizer.eos_token_id}
    return {text: index for text, index in control.items() if index not in unknown}


def _chat_frame(tokenizer: Any, template: ChatTemplate, control: dict[str, int]) -> _Frame:
    text = template.render(_SENTINEL, tokenize=False, add_generation_prompt=True)
    if text.count(_SENTINEL) != 1:
        raise UserError("the model's chat template does not place the user turn exactly once; use another model")
    before, _, after = text.partition(_SENTINEL)
    last = max((before.rfind(name) + len(name) for name in control if name in before), default=0)
    first = min((after.find(name) for name in control if name in after), default=len(after))
    encode = {"add_special_tokens": False, "return_attention_mask": False}
    return _Frame(
        ids_before=list(tokenizer(before[:last], **encode)["input_ids"]) if last else [],
        text_before=before[last:],
        text_after=after[:first],
        ids_after=list(tokenizer(after[first:], **encode)["input_ids"]) if after[first:] else [],
    )


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("x")["input_ids"]
    return tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id
