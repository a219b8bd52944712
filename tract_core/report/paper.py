"""The numbers that the report stands beside: the paper's tables, and the runs that its authors published.

Typed in from arXiv:2503.04381 and from the evaluation log of the authors' repository; a test compares each
with its source. Benchmarks are always in the order of BENCHES; a fifth number is the mean of the four.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from tract_core.score.paper_lines import MEAN, Line

BENCHES = ("feedback_bench", "flask", "vicuna_bench", "mt_bench")
"""Feedback Bench is the file of unseen rubrics ("out of domain"): the one that Table 2 reports."""

Printed = Mapping[str, tuple[float, float, float, float, float]]
"""Row of the paper -> the four benchmarks and their mean."""

_TABLE_2_R: Printed = {
    "B.1": (0.890, 0.355, 0.429, 0.279, 0.488),
    "B.2": (0.872, 0.413, 0.463, 0.480, 0.557),
    "B.3": (0.197, 0.200, 0.281, 0.309, 0.247),
    "B.4": (0.932, 0.509, 0.567, 0.483, 0.623),
    "B.5": (0.845, 0.512, 0.488, 0.519, 0.591),
    "6": (0.931, 0.518, 0.593, 0.555, 0.650),
    "A.1": (0.879, 0.418, 0.528, 0.399, 0.556),
    "A.2": (0.919, 0.468, 0.562, 0.517, 0.617),
    "A.3": (0.873, 0.358, 0.418, 0.435, 0.521),  # section 5 prints 0.512 for this mean, which is that of rho
    "A.4": (0.674, 0.448, 0.505, 0.432, 0.515),
}
_TABLE_2_RHO: Printed = {
    "B.1": (0.891, 0.361, 0.414, 0.268, 0.483),
    "B.2": (0.872, 0.407, 0.456, 0.482, 0.554),
    "B.3": (0.175, 0.149, 0.165, 0.216, 0.176),
    "B.4": (0.930, 0.502, 0.519, 0.469, 0.605),
    "B.5": (0.847, 0.493, 0.480, 0.483, 0.576),
    "6": (0.930, 0.501, 0.552, 0.529, 0.628),
    "A.1": (0.880, 0.419, 0.513, 0.418, 0.558),
    "A.2": (0.917, 0.436, 0.526, 0.503, 0.596),
    "A.3": (0.873, 0.346, 0.404, 0.426, 0.512),
    "A.4": (0.684, 0.437, 0.477, 0.421, 0.505),
}
_TABLE_6: Printed = {
    "B.1": (0.824, 0.294, 0.344, 0.211, 0.418),
    "B.2": (0.798, 0.328, 0.380, 0.380, 0.472),
    "B.3": (0.130, 0.109, 0.122, 0.150, 0.127),
    "B.4": (0.818, 0.375, 0.401, 0.342, 0.484),
    "B.5": (0.765, 0.405, 0.411, 0.392, 0.493),
    "6": (0.820, 0.373, 0.423, 0.386, 0.500),
    "A.1": (0.763, 0.315, 0.409, 0.307, 0.448),
    "A.2": (0.798, 0.321, 0.406, 0.369, 0.474),
    "A.3": (0.795, 0.281, 0.339, 0.337, 0.438),
}
_TABLE_8: Printed = {
    "B.1": (0.772, 0.353, 0.333, 0.429, 0.472),
    "B.2": (0.749, 0.385, 0.406, 0.372, 0.478),
    "B.3": (0.535, 0.298, 0.360, 0.398, 0.398),
    "B.4": (0.799, 0.371, 0.386, 0.455, 0.503),
    "6": (0.805, 0.367, 0.468, 0.494, 0.534),
}


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One comparison table: which metric, what the paper prints, and why what is absent is absent."""

    name: str
    metric: str
    printed: Printed
    absent: str


_MISTRAL = (
    PaperTable(name="Table 2", metric="pearson", printed=_TABLE_2_R, absent="the paper's Table 2 has no such row"),
    PaperTable(name="Table 2", metric="spearman", printed=_TABLE_2_RHO, absent="the paper's Table 2 has no such row"),
    PaperTable(name="Table 6", metric="kendall", printed=_TABLE_6, absent="the paper's Table 6 has no such row"),
)
_UNREADABLE = "no trustworthy copy of the paper's Table 7 was at hand: its numbers were garbled in the text we read"
_LLAMA = (
    PaperTable(name="Table 7", metric="pearson", printed={}, absent=_UNREADABLE),
    PaperTable(name="Table 7", metric="spearman", printed={}, absent=_UNREADABLE),
    # The caption of Table 8 says Mistral; the text and appendix B.3 say Llama-3.1-8B.
    PaperTable(name="Table 8", metric="kendall", printed=_TABLE_8, absent="the paper's Table 8 has no such row"),
)
_SEED_MODELS = {"mistral": "Mistral-7B-Instruct-v0.2", "llama": "Llama-3.1-8B-Instruct"}


def family(seed_model: str) -> str:
    """Whose tables stand beside ours: `llama` for a Llama 3.1 seed model, `mistral` for every other one."""
    return "llama" if "llama-3.1" in seed_model.lower() else "mistral"


def is_seed_model_of_paper(seed_model: str) -> bool:
    """Whether the paper's tables are about this seed model."""
    return _SEED_MODELS[family(seed_model)].lower() in seed_model.lower()


def comparison_tables(seed_model: str) -> tuple[PaperTable, ...]:
    """Tables 2 and 6, or 7 and 8 for Llama: r, rho and tau-b."""
    return _LLAMA if family(seed_model) == "llama" else _MISTRAL


def printed(table: PaperTable, line: Line, bench: str) -> float | None:
    """The paper's number for one line and one of BENCHES or MEAN; None where it prints none."""
    numbers = table.printed.get(line.paper) if line.paper else None
    return None if numbers is None else numbers[(*BENCHES, MEAN).index(bench)]


@dataclass(frozen=True, kw_only=True)
class AuthorsRun:
    """One model of the authors' log, K = 1, seed 42, Mistral; four benchmarks each, to four digits."""

    model: str
    """Last part of the log's `model_name_or_path`."""
    mode: str
    """The log's `score_generation_mode`: `raft` is RAIL, `decode` one sampled token."""
    pearson: tuple[float, ...]
    spearman: tuple[float, ...]
    kendall: tuple[float, ...]
    rmse: tuple[float, ...]


_SELF_CE_A1 = "sft_lora_cot_raft_feedback_score_1"  # CE on the CoTs of the CoT-RAFT stage-1 model
_SELF_CE_B2 = "lora_sft_lora_sft_cot"  # CE on the CoTs of the CE stage-1 model
_PROMETHEUS = AuthorsRun(
    model="prometheus-7b-v2.0",
    mode="decode",
    pearson=(0.8452, 0.5116, 0.4884, 0.5194),
    spearman=(0.8471, 0.4930, 0.4800, 0.4834),
    kendall=(0.7647, 0.4047, 0.4110, 0.3915),
    rmse=(0.7733, 1.3630, 0.8582, 1.2253),
)
AUTHORS: Mapping[str, AuthorsRun] = {
    "B.2": AuthorsRun(
        model="sft_gpt4_cot_2_epoch",
        mode="decode",
        pearson=(0.8724, 0.4130, 0.4632, 0.4796),
        spearman=(0.8722, 0.4065, 0.4564, 0.4821),
        kendall=(0.7976, 0.3278, 0.3804, 0.3804),
        rmse=(0.7064, 1.6894, 1.1977, 1.3664),
    ),
    # The paper names Prometheus' own code; its numbers are those of the authors' script, which forces the delimiter.
    "B.5 forced delimiter": _PROMETHEUS,
    "6": AuthorsRun(
        model="lora_cot_raft_lora_cot_raft_feedback_score_1",
        mode="raft",
        pearson=(0.9311, 0.5184, 0.5931, 0.5554),
        spearman=(0.9300, 0.5008, 0.5521, 0.5286),
        kendall=(0.8198, 0.3728, 0.4229, 0.3861),
        rmse=(0.5360, 1.3923, 0.8572, 1.1718),
    ),
    "A.1": AuthorsRun(
        model="lora_cot_raft_2_epoch",
        mode="raft",
        pearson=(0.8787, 0.4180, 0.5284, 0.3992),
        spearman=(0.8802, 0.4193, 0.5128, 0.4177),
        kendall=(0.7628, 0.3153, 0.4087, 0.3067),
        rmse=(0.6891, 1.6681, 1.1609, 1.4937),
    ),
    "A.2": AuthorsRun(
        model=_SELF_CE_B2,
        mode="raft",
        pearson=(0.9185, 0.4680, 0.5620, 0.5173),
        spearman=(0.9165, 0.4361, 0.5262, 0.5030),
        kendall=(0.7980, 0.3207, 0.4060, 0.3693),
        rmse=(0.5622, 1.5158, 0.9573, 1.2468),
    ),
    "A.2, CoTs of A.1": AuthorsRun(
        model=_SELF_CE_A1,
        mode="raft",
        pearson=(0.9174, 0.4681, 0.5760, 0.5499),
        spearman=(0.9158, 0.4410, 0.5307, 0.5220),
        kendall=(0.7975, 0.3258, 0.4095, 0.3812),
        rmse=(0.5663, 1.4987, 0.9301, 1.1942),
    ),
    "A.3": AuthorsRun(
        model=_SELF_CE_A1,
        mode="decode",
        pearson=(0.8728, 0.3763, 0.4212, 0.4673),
        spearman=(0.8733, 0.3621, 0.3765, 0.4453),
        kendall=(0.7984, 0.2934, 0.3174, 0.3480),
        rmse=(0.7113, 1.7636, 1.2537, 1.5067),
    ),
    "A.3, CoTs of B.2": AuthorsRun(
        model=_SELF_CE_B2,
        mode="decode",
        pearson=(0.8866, 0.4215, 0.4775, 0.4796),
        spearman=(0.8896, 0.3891, 0.4473, 0.4568),
        kendall=(0.8246, 0.3260, 0.3909, 0.3764),
        rmse=(0.6611, 1.5524, 1.0267, 1.3289),
    ),
    "A.4": AuthorsRun(
        model="lora_cot_raft_lora_cot_raft_initial_gpt4",
        mode="raft",
        pearson=(0.6743, 0.4482, 0.5050, 0.4318),
        spearman=(0.6844, 0.4369, 0.4767, 0.4212),
        kendall=(0.5605, 0.3310, 0.3632, 0.3127),
        rmse=(1.5401, 1.4178, 0.7865, 1.4582),
    ),
}
NO_AUTHORS_RUN = "no published run of the authors is known to be this line"
NO_LLAMA_RUN = "the authors published runs of Mistral only"


def authors(seed_model: str, metric: str, line: Line, bench: str) -> float | None:
    """The authors' own run for one line and one of BENCHES or MEAN (the mean of the four); None: not published."""
    run = AUTHORS.get(line.label) if family(seed_model) == "mistral" else None
    if run is None:
        return None
    numbers: tuple[float, ...] = getattr(run, metric)
    return fmean(numbers) if bench == MEAN else numbers[BENCHES.index(bench)]


@dataclass(frozen=True, kw_only=True)
class AuthorsMean:
    """Mean over the four benchmarks of one run of the authors' log."""

    model: str
    pearson: float
    rmse: float


LAMBDA_GRID = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Figure 2."""
AUTHORS_SWEEP: Mapping[float, AuthorsMean] = {
    0.1: AuthorsMean(model="cot_raft_lora_cot_raft_weight_1e_1", pearson=0.4957, rmse=1.2779),
    0.2: AuthorsMean(model="cot_raft_lora_cot_raft_weight_2e_1", pearson=0.6432, rmse=0.9885),
    0.5: AuthorsMean(model="cot_raft_lora_cot_raft_weight_5e_5", pearson=0.6558, rmse=0.9570),  # name: taken for 0.5
    1.0: AuthorsMean(model="lora_cot_raft_lora_cot_raft_feedback_score_1", pearson=0.6495, rmse=0.9893),
    2.0: AuthorsMean(model="cot_raft_lora_cot_raft_weight_2", pearson=0.6315, rmse=1.0356),
    5.0: AuthorsMean(model="cot_raft_lora_cot_raft_weight_5", pearson=0.5950, rmse=1.0970),
    10.0: AuthorsMean(model="cot_raft_lora_cot_raft_weight_10", pearson=0.6178, rmse=1.0577),
}
"""The authors' runs behind Figure 2 (RAIL, K = 1, one seed); only stage 2's lambda varied."""
AUTHORS_K5: Mapping[str, AuthorsMean] = {
    "B.2": AuthorsMean(model="sft_gpt4_cot_2_epoch", pearson=0.6276, rmse=1.0556),
    "B.5 forced delimiter": AuthorsMean(model="prometheus-7b-v2.0", pearson=0.6964, rmse=0.8908),
    "6": AuthorsMean(model="lora_cot_raft_lora_cot_raft_feedback_score_1", pearson=0.6510, rmse=0.9865),
}
"""The authors' runs with five CoTs for each example, of the lines that Figure 3 draws."""

TABLE_3_RMSE = {
    ("a1", "training"): 0.12,
    ("a1", "own"): 0.63,
    ("tract", "training"): 0.45,
    ("tract", "own"): 0.45,
}
"""Table 3: RMSE over training examples, after the CoTs that the model was trained on and after its own."""
PERPLEXITY = {"annotator": 7.78, "a1": 6.67, "tract": 6.34}
"""Appendix B.4: perplexity of each source's CoTs under the seed model."""
META_JUDGE = {"annotator": 4.78, "a1": 4.50}
"""Appendix B.1: mean grade of 200 CoTs."""
