"""Made-up rows in the fields of Feedback Collection and of prometheus-eval's files, as long as the real ones are."""

import json
import random
from pathlib import Path
from typing import Any

from tract_core.text.prompts import JudgeInput, PromptStyle, render

ROWS = {"train": 240}  # of a file; each benchmark has 40


def write(data: dict[str, Any], folder: Path, tokenizer: Any) -> None:
    """Files of the formats that the preset names, in place of its own; few of their rows are used."""
    folder.mkdir(parents=True)
    maker = Maker(tokenizer)
    for name, source in {"train": data["train"], **data["benchmarks"]}.items():
        make = {"feedback_collection": maker.feedback_collection, "prometheus_eval": maker.prometheus_eval}
        rows = [make[source["format"]]() for _ in range(ROWS.get(name, 40))]
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        limit = 16 if name == "train" else 3
        source |= {"path": f"{name}.json", "split": None, "revision": None, "max_rows": limit}


class Maker:
    """Rows of made-up words, as long in tokens as the real ones: prompts of 800 to 2,500, feedback of 100 to 300."""

    def __init__(self, tokenizer: Any) -> None:
        self.rng = random.Random(0)
        sounds = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "er", "is", "ou", "\u00e9")]
        self.words = ["".join(self.rng.choices(sounds, k=self.rng.choice([1, 1, 2, 2, 3]))) for _ in range(3000)]
        sample = self.words_of(2000)
        self.per_word = len(tokenizer(sample)["input_ids"]) / 2000

    def words_of(self, count: int) -> str:
        """Sentences, some of them items of a list or in a paragraph of their own."""
        found = list[str]()
        while count > 0:
            length = min(count, self.rng.randint(5, 20))
            start = self.rng.choice(["", "", "", "\n\n", "\n- ", f"\n{len(found) + 1}. "])
            found.append(start + " ".join(self.rng.choices(self.words, k=length)).capitalize() + ".")
            count -= length
        return " ".join(found).strip()

    def text(self, tokens: float) -> str:
        return self.words_of(max(1, round(tokens / self.per_word)))

    def judged(self) -> JudgeInput:
        left = self.rng.randint(800, 2500) - 320  # task and rubric
        parts = [self.text(share * left) for share in (0.3, 0.4, 0.3)]
        rubric = tuple(self.text(20) for _ in range(5))
        return JudgeInput(instruction=parts[0], response=parts[1], reference=parts[2], criteria=self.text(20),
                          descriptions=rubric)  # fmt: skip

    def feedback_collection(self) -> dict[str, Any]:
        x, score = self.judged(), self.rng.randint(1, 5)
        feedback = f"{self.text(self.rng.randint(100, 300))} So the overall score is {score}."
        rubric = {f"orig_score{n}_description": text for n, text in enumerate(x.descriptions, start=1)}
        return {"instruction": rendered(x), "output": f"{feedback} [RESULT] {score}", "orig_instruction": x.instruction,
                "orig_response": x.response, "orig_reference_answer": x.reference, "orig_criteria": x.criteria,
                **rubric, "orig_score": str(score), "orig_feedback": feedback}  # fmt: skip

    def prometheus_eval(self) -> dict[str, Any]:
        scores = [self.rng.randint(1, 5) for _ in range(3)]
        feedbacks = [self.text(self.rng.randint(100, 300)) for _ in scores]
        return {"instruction": rendered(self.judged()), "gpt4_score": scores, "gpt4_feedback": feedbacks}


def rendered(x: JudgeInput) -> str:
    labels = ("1", "2", "3", "4", "5")
    style = PromptStyle(source="template", format_text="authors", use_reference=True, delimiter="", labels=labels)
    return render(x, style)
