"""The page's section of reinforcement learning."""

from tract_core.report import rounds

COURSE = [
    {
        "judge": "tract",
        "reward": -0.8,
        "spread": 0.5,
        "tokens": 11.2,
        "bad": 0.015,
        "scores": {"id": {"pearson": 0.7634, "rmse": 0.9}},
    },
    {"judge": "real_1", "reward": -0.7, "spread": 0.4, "tokens": None, "bad": None, "scores": {}},
    {
        "judge": "real_2",
        "reward": None,
        "spread": None,
        "tokens": 12.0,
        "bad": 0.0,
        "scores": {"id": {"pearson": 0.8, "rmse": None}},
    },
]


def test_each_judge_has_a_row_and_what_is_not_there_has_its_reason():
    table = rounds.table(COURSE)
    shown = {head.label: [cell.text for cell in cells] for head, cells in table.rows}
    assert shown["tract"] == ["-0.800", "0.500", "11", "1.5%", "0.763", "0.900"]
    reasons = [cell.reason for _, cells in table.rows[1:] for cell in cells if cell.reason]
    assert reasons.count("no round drew from this judge") == 2
    assert reasons.count("this judge is not in matrix.scored") == 5


def test_figures_need_two_judges_with_numbers():
    assert [panel.name for panel in rounds.panels(COURSE)] == ["rounds_pearson", "rounds_reward"]
    assert rounds.panels(COURSE[:1]) == []
    assert rounds.table([]).rows == ()
