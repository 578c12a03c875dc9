"""What a newcomer sees first: every lesson in a laptop's window, as `labkit lab` opens it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import ROOT, board, jupyterlab, opened, press, run_named, visit, wait_for_state

from labkit.cli.lab import server_options

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
LESSONS = [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
CELL = "(id) => [...window.jupyterapp.shell.currentWidget.content.model.cells].findIndex((cell) => cell.id === id)"
RECOVERY = """def recovery(student, baseline, teacher):
    return (student - baseline) / (teacher - baseline)

labkit.check("00.recovery", recovery)"""
SEEN = {"Run": ".labkit-run", "what is taught to whom": ".dlab-title", "the curve": ".dlab-canvas.is-kl"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(work):
    ARTIFACTS.mkdir(exist_ok=True)
    with jupyterlab(work, LABKIT_QUICK="1") as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    with opened(address, reset="", size=(1280, 900)) as page:
        yield page


def first_visit(page, address: str, work: Path, notebook: str) -> None:
    """Open a lesson with nothing left of earlier ones, as after the first `labkit lab`."""
    page.goto("about:blank")
    page.wait_for_timeout(1000)  # JupyterLab writes its layout when a page is left
    shutil.rmtree(work / "home" / "workspaces")
    server_options(work / "home")
    visit(page, address, notebook, reset="")


def outside(page, height: int = 900) -> list[str]:
    """Those parts of the first screen that are not whole within the window."""
    boxes = {name: page.locator(selector).first.bounding_box() for name, selector in SEEN.items()}
    return [name for name, box in boxes.items() if box is None or box["y"] < 0 or box["y"] + box["height"] > height - 20]


def close(page) -> None:
    """End the kernel of this notebook and close its tab, as a learner who goes on to the next lesson does."""
    page.evaluate(
        "async () => { const panel = window.jupyterapp.shell.currentWidget; await panel.sessionContext.shutdown(); panel.dispose(); }"
    )


def test_the_file_list_is_closed_until_it_is_opened(page):
    assert page.locator("#jp-left-stack").is_hidden()
    assert page.locator(".jp-NotebookPanel:visible").first.bounding_box()["width"] > 1_150


@pytest.mark.parametrize("notebook", LESSONS)
def test_a_laptop_s_window_holds_run_the_curve_and_who_is_taught(page, address, work, notebook):
    first_visit(page, address, work, notebook)
    run_named(page, "open")
    page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    page.wait_for_timeout(300)  # the page comes to rest
    page.screenshot(path=ARTIFACTS / f"first_{notebook[:2]}.png")
    assert not outside(page)
    assert " student, " in page.locator(".dlab-title").first.inner_text()
    assert page.locator(".jp-OutputArea-output:visible", has_text="Traceback").count() == 0
    press(page, "Run")
    wait_for_state(page, "loading", "labelling", "training", "finished")
    assert not outside(page)
    assert axe(page) == []
    close(page)


def axe(page) -> list[str]:
    """What axe-core finds serious in the cell of the lab, whole."""
    found = Axe().run(page, ".labkit-lab").response["violations"]
    return [f"{x['id']}: {node['target']}" for x in found if x["impact"] in ("serious", "critical") for node in x["nodes"]]


def test_run_pressed_from_below_brings_the_board_into_view(page, address, work):
    first_visit(page, address, work, LESSONS[0])
    page.set_viewport_size({"width": 1280, "height": 640})
    run_named(page, "open")
    board(page).wait_for()
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    assert "the curve" in outside(page, 640)
    press(page, "Run")
    page.wait_for_function("document.querySelector('.dlab-canvas.is-kl').getBoundingClientRect().bottom < innerHeight")
    page.set_viewport_size({"width": 1280, "height": 900})
    close(page)


@pytest.fixture
def keyboard(page, address, work, request):
    """A lesson whose page gets no click."""
    first_visit(page, address, work, request.param)
    page.keyboard.press("Escape")
    yield page
    close(page)


def step(page, name: str) -> None:
    """Run cells with Shift+Enter up to the one with this id, and wait until it is done."""
    while page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCell.model.id") != name:
        page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("async () => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")


def go(page, name: str) -> None:
    """Leave the widgets with Tab, move to the cell with this id by arrow keys, and run it."""
    for _ in range(120):
        if not page.evaluate("() => !!document.activeElement.closest('.jupyter-widgets')"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    move_to(page, page.evaluate(CELL, name))
    page.keyboard.press("Shift+Enter")


def move_to(page, number: int) -> None:
    for _ in range(60):
        here = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        if here == number:
            return
        page.keyboard.press("ArrowDown" if here < number else "ArrowUp")
    raise AssertionError(f"arrow keys do not lead from cell {here} to cell {number}: {focused(page)[:60]} has the focus")


def answer(page, name: str, lines: str) -> None:
    """Write over the cell with this id, and run it."""
    at = page.evaluate(CELL, name)
    go(page, name)
    page.keyboard.press("Escape")
    move_to(page, at)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(lines)
    page.keyboard.press("Shift+Enter")


@pytest.mark.parametrize("keyboard", [LESSONS[0]], indirect=True)
def test_lesson_00_is_done_by_keyboard_alone(keyboard, work):
    page = keyboard
    step(page, "open")
    board(page).wait_for()
    tab_to(page, "Between", key="Shift+Tab")
    page.keyboard.type("0.2")
    tab_to(page, "Save prediction")
    page.keyboard.press("Enter")
    page.get_by_text("Kept: 0.2 to 0.92, 80% sure.").wait_for()
    tab_to(page, "More settings")
    page.keyboard.press("Space")
    tab_to(page, "Gold mix")
    tab_to(page, "Break it", most=120)
    page.keyboard.press("Space")
    page.get_by_role("button", name="Diagnose").wait_for()
    tab_to(page, "Diagnose")
    tab_to(page, "Run", key="Shift+Tab", most=120)
    page.keyboard.press("Enter")
    wait_for_state(page, "labelling", "training", "finished")
    tab_to(page, "Temperature")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "1.2"
    wait_for_state(page, "finished")
    page.wait_for_function("document.querySelector('.labkit-buttons').textContent.includes('lower is better')")  # the prediction's score
    go(page, "result")
    answer(page, "exercise-recovery", RECOVERY)
    passed = work / "home" / "predictions.jsonl"
    for _ in range(60):
        if "00.recovery" in passed.read_text():
            break
        page.wait_for_timeout(500)
    assert "00.recovery" in passed.read_text(), "the exercise was checked, and the check was kept"


@pytest.mark.parametrize("keyboard", [name for name in LESSONS if name[:2] == "11"], indirect=True)
def test_a_case_of_the_incident_room_is_solved_by_keyboard_alone(keyboard):
    page = keyboard
    step(page, "open")
    board(page).wait_for()
    go(page, "room-open")
    room = page.locator(".labkit-incident").last
    room.wait_for()
    tab_to(page, "signal against text", key="Shift+Tab")
    page.keyboard.press("Enter")
    room.get_by_text("the signal's first choice is the token at its position").wait_for()
    tab_to(page, "It is")
    page.keyboard.type("Nothing")
    tab_to(page, "Name it")
    page.keyboard.press("Enter")
    room.get_by_text("The detectors, which see everything").first.wait_for()


def focused(page) -> str:
    """The name of what has the focus, as a screen reader says it."""
    name = """(n => n.getAttribute("aria-label") ?? n.labels?.[0]?.textContent
        ?? n.closest(".widget-inline-hbox")?.querySelector("label")?.textContent ?? n.textContent)(document.activeElement)"""
    return page.evaluate(name).strip()


def tab_to(page, *names: str, key: str = "Tab", most: int = 80) -> str:
    """Press a key until one of these has the focus. Returns its name."""
    passed = []
    for _ in range(most):
        page.keyboard.press(key)
        passed.append(focused(page)[:40])
        if any(passed[-1].startswith(name) for name in names):
            return passed[-1]
    raise AssertionError(f"{names} cannot be reached with {key}: {passed}")


def cells(notebook: str) -> list[dict]:
    return json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
