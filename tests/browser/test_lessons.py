"""The lab as a learner meets it: JupyterLab in Debian's Chromium, a real kernel, real clicks; screenshots in tests/artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browsing import ROOT, board, jupyterlab, opened, press, run_cell, run_named, slider, step_of, visit, wait_for_state, wait_for_step

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parent.parent / "artifacts"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    ARTIFACTS.mkdir(exist_ok=True)
    with jupyterlab(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
def page(address):
    with opened(address) as page:
        yield page


def test_a_recorded_run_is_on_screen_before_anything_is_pressed(page):
    run_named(page, "open")
    board(page).wait_for()
    page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
    assert "recorded run" in page.locator(".labkit-lab").inner_text()
    page.screenshot(path=ARTIFACTS / "recorded.png")


def test_run_trains_a_student_and_the_curve_falls(page):
    press(page, "Run")
    wait_for_state(page, "loading", "training", "labelling")  # at once
    page.wait_for_function("document.querySelector('.dlab')?.dataset.ghost === '1'")  # the recording became the ghost
    wait_for_step(page, 25)
    assert board(page).get_attribute("data-state") in ("training", "labelling")
    assert int(board(page).get_attribute("data-kl-points")) >= 20


def test_temperature_turned_during_the_run_leaves_a_mark_on_the_curve(page):
    before = int(board(page).get_attribute("data-knob-marks"))
    for _ in range(5):
        slider(page, "Temperature").press("ArrowRight")
    page.wait_for_function("(n) => Number(document.querySelector('.dlab').dataset.knobMarks) > n", arg=before)
    here = step_of(page)
    wait_for_step(page, here + 10)
    page.screenshot(path=ARTIFACTS / "running.png")


def test_pause_holds_the_run_and_resume_goes_on(page):
    press(page, "Pause")
    wait_for_state(page, "paused")
    here = -1
    for _ in range(20):  # what was under way is still drawn, late on a busy machine
        if here == (here := step_of(page)):
            break
        page.wait_for_timeout(500)
    page.wait_for_timeout(1500)
    assert step_of(page) == here
    press(page, "Resume")
    wait_for_step(page, here + 5)


def test_cold_controls_are_locked_while_running(page):
    assert page.get_by_role("combobox", name="Student size").first.is_disabled()


def test_stop_ends_in_order_with_an_exam(page):
    press(page, "Stop")
    wait_for_state(page, "stopped", "finished")
    assert page.locator("[data-testid='samples'] td[data-verdict]").count() >= 8
    text = page.locator("[data-testid='recovery']").inner_text()
    assert re.search(r"recall", text)
    page.screenshot(path=ARTIFACTS / "stopped.png")


def test_a_reloaded_view_gets_the_whole_story(page):
    points = int(board(page).get_attribute("data-kl-points"))
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:create-output-view')")
    page.wait_for_function("document.querySelectorAll('.dlab').length === 2")
    page.wait_for_function("(n) => Number([...document.querySelectorAll('.dlab')].at(-1).dataset.klPoints) >= n", arg=points)


def test_describe_key_speaks_the_state(page):
    board(page).focus()
    page.keyboard.press("d")
    page.wait_for_function("document.querySelector('.dlab .dlab-described').textContent.length > 40")


@pytest.fixture(scope="module")
def anatomy(address, page):
    other = page.context.browser.new_page(viewport={"width": 1500, "height": 1100})
    page.close()
    visit(other, address, "03_loss_anatomy.ipynb")
    return other


def test_another_lesson_opens_on_its_recording(anatomy):
    run_named(anatomy, "open")
    board(anatomy).wait_for()
    anatomy.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
    assert anatomy.get_by_role("combobox", name="Divergence").first.input_value() == "reverse_kl"


def test_the_lens_follows_its_controls(anatomy):
    cells = json.loads((ROOT / "notebooks" / "03_loss_anatomy.ipynb").read_text())["cells"]
    run_cell(anatomy, next(i for i, cell in enumerate(cells) if cell["id"] == "open-lens"))
    said = anatomy.locator("[role='status']", has_text="Look for")
    said.wait_for()
    assert "the first answer token is never trained" in said.inner_text()
    anatomy.get_by_role("combobox", name="Convention").select_option("divided twice  (bug)")
    anatomy.locator("img.dlab-light[alt^='divided twice']").wait_for()
    assert "100 to 1,000 times smaller" in said.inner_text()
    assert anatomy.locator(".jp-OutputArea-output [role='alert']", has_text="Error").count() == 0
    anatomy.screenshot(path=ARTIFACTS / "lens.png")


@pytest.fixture(scope="module")
def incident(address, anatomy):
    other = anatomy.context.browser.new_page(viewport={"width": 1500, "height": 1600})
    anatomy.close()
    visit(other, address, "11_incident_room.ipynb")
    return other


def test_an_incident_is_looked_at_and_named(incident):
    cells = json.loads((ROOT / "notebooks" / "11_incident_room.ipynb").read_text())["cells"]
    for name in ("open", "room-open"):
        run_cell(incident, next(i for i, cell in enumerate(cells) if cell["id"] == name))
    room = incident.locator(".labkit-incident")
    room.wait_for()
    press(incident, "signal against text \u00b7 10 min")
    room.get_by_text("the signal's first choice is the token at its position").wait_for()
    assert room.get_by_role("meter", name="minutes left").get_attribute("aria-valuenow") == "30"
    room.get_by_role("combobox", name="It is").select_option("Nothing: no fault")
    press(incident, "Name it")
    room.get_by_text("The detectors, which see everything").first.wait_for()
    incident.screenshot(path=ARTIFACTS / "incident.png")
    press(incident, "Next case")
    room.get_by_text("40 of 40 minutes left").wait_for()
    assert incident.locator(".jp-OutputArea-output [role='alert']", has_text="Error").count() == 0


@pytest.fixture(scope="module")
def heat(address, incident):
    """Lesson 02 after its heat map has been drawn, and the addresses outside this machine that its page asked for."""
    other, away = incident.context.browser.new_page(viewport={"width": 1280, "height": 900}), []
    incident.close()
    here = (address, address.replace("http", "ws"), "data:", "blob:")
    other.on("request", lambda request: None if request.url.startswith(here) else away.append(request.url))
    visit(other, address, "02_temperature.ipynb")
    cells = json.loads((ROOT / "notebooks" / "02_temperature.ipynb").read_text())["cells"]
    for name in ("open", "beneath", "heat"):
        run_cell(other, next(i for i, cell in enumerate(cells) if cell["id"] == name))
    other.locator(".jp-RenderedPlotly img[src]").wait_for()
    return other, away


def test_a_figure_to_explore_is_a_picture_that_comes_alive_under_the_pointer(heat):
    page, away = heat
    figure = page.locator(".jp-RenderedPlotly")
    figure.scroll_into_view_if_needed()
    size = figure.locator("img").bounding_box()
    words = page.locator("summary", has_text="In words").last
    assert "The highest is" in words.get_attribute("aria-label"), "plotly's picture has no alt text in JupyterLab"
    figure.hover()
    figure.locator(".main-svg").first.wait_for()
    drawn = figure.locator(".main-svg").first.bounding_box()
    assert (drawn["width"], round(drawn["height"])) == (size["width"], round(size["height"])), "nothing jumps"
    cell = figure.locator(".bars .point").first.bounding_box()
    page.mouse.move(cell["x"] + cell["width"] / 2, cell["y"] + cell["height"] / 2)
    page.mouse.move(cell["x"] + cell["width"] / 2 + 3, cell["y"] + cell["height"] / 2)
    told = figure.locator(".hoverlayer").get_by_text("\u00b1").first
    told.wait_for()
    page.screenshot(path=ARTIFACTS / "heat.png")
    assert not away, "a page of the lab loads nothing from elsewhere"


def test_the_speed_up_surface_follows_its_sliders_and_comes_alive(heat):
    page, away = heat
    page.evaluate(
        """() => {
            const {content} = window.jupyterapp.shell.currentWidget;
            content.model.sharedModel.insertCell(0, {cell_type: 'code', source: 'import labkit; labkit.lens("speculation")'});
        }"""
    )
    run_cell(page, 0)
    lens = page.locator(".jp-Cell").first
    figure = lens.locator(".jp-RenderedPlotly")
    before = figure.locator("img").get_attribute("src")
    lens.locator(".noUi-handle").first.press("ArrowLeft")
    page.wait_for_function("(src) => document.querySelector('.jp-Cell .jp-RenderedPlotly img').src !== src", arg=before)
    figure.hover()
    figure.locator(".main-svg").first.wait_for()
    lens.get_by_text("acceptance is above the cost of a token").wait_for()
    page.screenshot(path=ARTIFACTS / "speedups.png")
    assert not away
