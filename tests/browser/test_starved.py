"""A starved run on the board of a lesson: what it offers is taken up by the keyboard, in a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import board, jupyterlab, opened, press, run_cell, run_named, wait_for_state, wait_for_step

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"

STARVED = """
import contextlib
from labkit.base.threads import Share, Watch
from labkit.training import loop
Watch.AFTER, Watch.STARVED = 0.0, 1000.0
loop.threads_of_a_run = lambda most: contextlib.nullcontext(Share(2))
"""


def test_a_starved_run_goes_on_with_one_thread_at_the_press_of_a_key(tmp_path):
    ARTIFACTS.mkdir(exist_ok=True)
    with jupyterlab(tmp_path) as address, opened(address) as page:
        run_named(page, "open")
        board(page).wait_for()
        page.evaluate(
            "(source) => window.jupyterapp.shell.currentWidget.content.model.sharedModel.insertCell(0, {cell_type: 'code', source})",
            STARVED,
        )
        run_cell(page, 0)
        offer = board(page).get_by_role("button", name="Go on with one thread")
        assert offer.count() == 0, "nothing is offered before it is needed"
        press(page, "Run")
        wait_for_step(page, 20)  # the first exam
        offer.wait_for()
        assert "Other programs take the processors" in page.locator("[data-testid='warning']").first.inner_text()
        press(page, "Pause")
        wait_for_state(page, "paused")
        page.screenshot(path=ARTIFACTS / "starved.png")
        board(page).focus()
        for name in ("In words", "Go on with one thread"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == name
        page.keyboard.press("Enter")
        offer.wait_for(state="hidden")
        assert page.evaluate("document.activeElement.classList.contains('dlab')"), "the keyboard stays on the board"
        press(page, "Resume")
        page.wait_for_function("document.querySelector('.dlab').dataset.knobMarks === '1'")
        board(page).focus()
        page.keyboard.press("d")
        page.wait_for_function("document.querySelector('.dlab-described').textContent.includes('threads from 2 to 1')")
        assert offer.count() == 0
        press(page, "Stop")
        wait_for_state(page, "stopped", "finished")
