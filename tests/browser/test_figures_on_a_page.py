"""Figures in JupyterLab: dark where the page is dark, in letters that can be read, and with prices that are no formulas."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from browsing import jupyterlab, opened, run_cell

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
CELLS = (
    """from IPython.display import HTML
from labkit.base.html import table
from labkit.views import figures
from labkit.views.figures import Cell, Interval, Line
rows = [Interval("from a teacher of its own size, early in training", 0.02, -0.11, 0.15, note="not distinguishable")]
figures.intervals("What another teacher adds", "mean core skill", rows, zero=0)""",
    """costs = {"more steps": Line([(0.1315694, 0.5), (0.154178, 0.6), (5.3, 0.7)], "baseline"), "own answers": Line([(1, 0.6)])}
figures.lines("Skill by cost", "core skill, " * 20, costs, "TFLOP", log_across=True, marks={"half": 1.0, "all": 1.1}, backend="plotly")""",
    """HTML(table(["price"], [["less than $500, and then $100"]]))""",
)
SHOWN = """() => [...document.querySelectorAll('.jp-OutputArea-output img[class^=dlab]')].filter(
    (img) => img.getClientRects().length > 0 && img.naturalWidth > 0).map((img) => [img.className, img.clientWidth])"""
LABELS = """() => [...document.querySelectorAll('.js-plotly-plot .annotation-text')].map((text) => {
    const box = text.getBoundingClientRect(), plot = text.closest('.js-plotly-plot').getBoundingClientRect();
    const edges = [box.left - plot.left, box.top - plot.top, box.right - plot.left, box.bottom - plot.top];
    return [text.textContent, ...edges, plot.width, plot.height];
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    ARTIFACTS.mkdir(exist_ok=True)
    work = tmp_path_factory.mktemp("figures")
    with jupyterlab(work) as address:
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else JupyterLab asks which
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS], metadata=kernel)
        nbformat.write(book, work / "notebooks" / "figures.ipynb")
        with opened(address, "figures.ipynb") as page:
            page.set_viewport_size({"width": 1280, "height": 900})
            for number in range(len(CELLS)):
                run_cell(page, number)
            page.wait_for_selector("td, th >> text=price")
            yield page


def theme(page, name: str) -> None:
    page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
    page.wait_for_function("(light) => document.body.dataset.jpThemeLight === light", arg=str("Light" in name).lower())
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def test_a_figure_has_the_theme_of_the_page_and_letters_of_11_pixels(page):
    for name, seen in (("JupyterLab Light", "dlab-light"), ("JupyterLab Dark", "dlab-dark"), ("JupyterLab Light", "dlab-light")):
        theme(page, name)
        page.wait_for_function(f"() => ({SHOWN})().length > 0")
        ((look, width),) = page.evaluate(SHOWN)
        assert look == seen
        assert width >= 735, "8 points of a figure of 740 pixels are 11 pixels"


def test_a_live_figure_is_dark_too(page):
    theme(page, "JupyterLab Dark")
    page.screenshot(path=ARTIFACTS / "dark_figures.png")
    dark = """() => [...document.querySelectorAll('.jp-OutputArea *')].filter(
        (part) => getComputedStyle(part).filter.includes('invert')).length"""
    assert page.evaluate(dark) == 1, "plotly's picture, and nothing else on the page"
    theme(page, "JupyterLab Light")
    assert page.evaluate(dark) == 0


def test_labels_of_a_live_figure_do_not_touch_in_a_browser(page):
    figure = page.locator(".jp-OutputArea-output img[src^='data:image/png']").first  # until the pointer is over it
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.wait_for_selector(".js-plotly-plot .annotation-text")
    labels = page.evaluate(LABELS)
    assert len(labels) > 8
    for text, left, top, right, bottom, width, height in labels:
        assert left >= -1 and top >= -1 and right <= width + 1 and bottom <= height + 1, f"{text!r} is cut off"
    for i, (one, *a) in enumerate(labels):
        for other, *b in labels[i + 1 :]:
            apart = min(a[2], b[2]) - max(a[0], b[0]) <= 2 or min(a[3], b[3]) - max(a[1], b[1]) <= 2
            assert apart, f"{one!r} and {other!r} overlap"


def test_a_price_stays_a_price(page):
    cell = page.locator(".jp-OutputArea-output td, .jp-OutputArea-output th", has_text="less than").first
    assert cell.inner_text() == "less than $500, and then $100"
    assert page.locator("mjx-container").count() == 0
