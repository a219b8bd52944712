"""`make plots`: DVC's plots as a page that needs no network."""

import subprocess
import sys

import pytest

from tests.pipeline.graph import ROOT
from tests.tract_core.report.chromium import PROGRAM, Page

PROJECT = "plots:\n  - loss.csv: {x: step, y: loss, title: training loss}\n"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of a project with one plot."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["dvc", "init", "-q", "--no-scm"], check=True)
    (tmp_path / "dvc.yaml").write_text(PROJECT)
    (tmp_path / "loss.csv").write_text("step,loss\n1,4.5\n2,3.0\n3,2.5\n")
    subprocess.run([sys.executable, ROOT / "tools/plots.py"], check=True)
    return tmp_path / "dvc_plots/index.html"


def test_the_scripts_of_the_plots_are_inside(page):
    text = page.read_text(encoding="utf-8")
    assert "training loss" in text
    assert "<script src" not in text
    assert "cdn.jsdelivr.net" not in text


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_a_plot_is_drawn_without_network(page, tmp_path):
    with Page(PROGRAM, tmp_path / "profile") as browser:
        browser.open(page, width=1280, height=900)
        drawn = "new Promise((r) => setTimeout(() => r(document.querySelectorAll('canvas, svg.marks').length), 2000))"
        assert browser.run(drawn) == 1
        assert [url for url in browser.requests if url.startswith("http")] == []
