"""A board whose page is loaded again, opened twice, or whose kernel is gone: complete, or a calm sentence. JupyterLab, a kernel, clicks."""

from __future__ import annotations

import pytest
from browsing import board, jupyterlab, opened, press, step_of, visit, wait_for_state, wait_for_step

pytestmark = pytest.mark.browser

OPEN = "window.jupyterapp.shell.currentWidget.content.widgets.findIndex(c => c.model.sharedModel.source.includes('labkit.open('))"
COMPLETE = """() => {
    const {dataset} = document.querySelector('.dlab') ?? {dataset: {}};
    return Number(dataset.step) > 20 && Number(dataset.klPoints) >= Number(dataset.step) - 12 && dataset.ghost === '1' && !dataset.link;
}"""
SIGNS = """[...document.querySelectorAll('.labkit-lab, .labkit-lab *')].filter((node) => node.className.includes?.('disconnected')
    && !['none', 'normal'].includes(getComputedStyle(node, '::before').content)).map((node) => node.className)"""
WIDE = "document.querySelector('.labkit-lab').getBoundingClientRect().width"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    with opened(address) as page:
        run_the_opening_cell(page)
        recipe = page.get_by_label("Recipe").first
        recipe.fill("labkit student=57k steps=5000 questions=4000")
        recipe.press("Enter")
        press(page, "Run")
        wait_for_step(page, 50)
        yield page


def run_the_opening_cell(page) -> None:
    page.evaluate(
        f"window.jupyterapp.shell.currentWidget.content.activeCellIndex = {OPEN}; window.jupyterapp.commands.execute('notebook:run-cell')"
    )
    page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")


def load_again(page) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def test_from_run_to_the_first_event_no_number_of_the_recording_shows(page):
    """With the run of the fixture on the board: a second one is begun, and the first becomes its ghost."""
    page.evaluate(
        """() => {
            const board = document.querySelector('.dlab');
            window.seen = [];
            new MutationObserver(() => {
                if (board.dataset.state === 'loading') window.seen.push(board.innerText);
            }).observe(board, {attributes: true, childList: true, subtree: true, characterData: true});
        }"""
    )
    press(page, "Run")
    wait_for_state(page, "loading")
    wait_for_step(page, 30)
    seen = page.evaluate("window.seen")
    assert any("loading the teacher" in text.lower() for text in seen)
    assert not [text for text in seen[2:] if "questions/s" in text or "5,000" in text]


@pytest.mark.parametrize("time", range(3))
def test_a_page_loaded_again_while_it_trains_is_complete_and_goes_on(page, time):
    load_again(page)
    page.wait_for_function(COMPLETE)
    here = step_of(page)
    wait_for_step(page, here + 10)
    press(page, "Pause")
    wait_for_state(page, "paused")
    press(page, "Resume")
    wait_for_state(page, "training")


def test_a_second_tab_is_complete(address, page):
    other = page.context.browser.new_page(viewport={"width": 1280, "height": 900})
    visit(other, address, "00_distil_in_a_minute.ipynb")
    other.wait_for_function(COMPLETE)
    other.close()


def test_opened_again_in_the_same_kernel_it_is_the_same_run(page):
    here = step_of(page)
    run_the_opening_cell(page)
    page.wait_for_function(COMPLETE)
    wait_for_step(page, here)
    assert board(page).get_attribute("data-state") == "training", "not the recorded run"
    press(page, "Stop")
    wait_for_state(page, "stopped")


def test_a_restarted_kernel_is_said_and_wrecks_nothing(page):
    wide = page.evaluate(WIDE)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    said = page.locator(".dlab-line", has_text="The kernel was restarted: run the cell above again.")
    said.wait_for()
    assert page.evaluate(WIDE) == wide
    assert page.evaluate(SIGNS) == []
    assert page.locator(".labkit-lab button", has_text="Run").first.evaluate("node => node.closest('[inert]') !== null"), "dead"


def test_a_page_loaded_again_without_its_kernel_shows_the_picture_and_what_to_do(page):
    load_again(page)
    twin = page.locator(".labkit-twin").first
    twin.wait_for()
    assert "run this cell" in twin.inner_text()
    assert page.get_by_text("Error displaying widget").locator("visible=true").count() == 0
    run_the_opening_cell(page)
    page.wait_for_timeout(300)
    assert page.locator(".labkit-twin").locator("visible=true").count() == 0, "never shown twice"
