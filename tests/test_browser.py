"""The lab as a learner meets it: JupyterLab in Debian's Chromium, a real kernel, real clicks; screenshots in tests/artifacts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
ARTIFACTS = Path(__file__).parent / "artifacts"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a free port, serving a copy of the notebooks with the lab's own home elsewhere."""
    work = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", work / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "LABKIT_HOME": str(work / "home"),
        "JUPYTER_CONFIG_DIR": str(work / "config"),
        "JUPYTER_DATA_DIR": str(work / "data"),
    }
    environment.pop("LABKIT_DATA", None)
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={work}", "--LabApp.expose_app_in_browser=True"]
    command.append(f"--LabApp.app_settings_dir={ROOT / 'labkit' / 'settings'}")
    log = (work / "server.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def page(server):
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "Chromium is missing: `make browser` installs Debian's"
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1500, "height": 1100})
        page.set_default_timeout(90_000)
        page.goto(f"{server}/lab/tree/notebooks/00_distil_in_a_minute.ipynb?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("window.jupyterapp !== undefined")
        page.wait_for_function(
            """async () => {
                const context = window.jupyterapp.shell.currentWidget?.sessionContext;
                if (!context) return false;
                await context.ready;
                return context.session?.kernel?.status === 'idle';
            }"""
        )
        yield page
        browser.close()


def run_cell(page, number: int) -> None:
    """Run one cell the way the menu does, without waiting for it."""
    page.evaluate(
        """(number) => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = number;
            window.jupyterapp.commands.execute('notebook:run-cell');
        }""",
        number,
    )


def board(page):
    return page.locator(".dlab").first


def step_of(page) -> int:
    return int(board(page).get_attribute("data-step") or 0)


def wait_for_step(page, at_least: int) -> None:
    page.wait_for_function("(n) => Number(document.querySelector('.dlab')?.dataset.step ?? 0) >= n", arg=at_least)


def set_slider(page, label: str, keys: str, times: int) -> None:
    handle = page.get_by_role("slider", name=label).first if page.get_by_role("slider", name=label).count() else None
    if handle is None:
        row = page.locator(".labkit-controls .widget-hslider, .labkit-controls .jupyter-widget-hslider", has_text=label).first
        handle = row.locator(".noUi-handle").first
    handle.focus()
    for _ in range(times):
        handle.press(keys)


def test_a_recorded_run_is_on_screen_before_anything_is_pressed(page):
    run_cell(page, 1)
    board(page).wait_for()
    page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
    assert "recorded run" in page.locator(".labkit-lab").inner_text()
    page.screenshot(path=ARTIFACTS / "recorded.png")


def test_run_trains_a_student_and_the_curve_falls(page):
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_function("document.querySelector('.dlab')?.dataset.ghost === '1'")  # the recording became the ghost
    wait_for_step(page, 25)
    assert board(page).get_attribute("data-state") in ("training", "labelling")
    assert int(board(page).get_attribute("data-kl-points")) >= 20


def test_temperature_turned_during_the_run_leaves_a_mark_on_the_curve(page):
    before = int(board(page).get_attribute("data-knob-marks"))
    set_slider(page, "Temperature", "ArrowRight", 20)
    page.wait_for_function("(n) => Number(document.querySelector('.dlab').dataset.knobMarks) > n", arg=before)
    here = step_of(page)
    wait_for_step(page, here + 10)
    page.screenshot(path=ARTIFACTS / "running.png")


def test_pause_holds_the_run_and_resume_goes_on(page):
    page.get_by_role("button", name="Pause", exact=True).click()
    page.wait_for_function("document.querySelector('.dlab').dataset.state === 'paused'")
    page.wait_for_timeout(500)
    here = step_of(page)
    page.wait_for_timeout(1500)
    assert step_of(page) == here
    page.get_by_role("button", name="Resume", exact=True).click()
    wait_for_step(page, here + 5)


def test_cold_controls_are_locked_while_running(page):
    assert page.get_by_role("combobox", name="Student size").first.is_disabled()


def test_stop_ends_in_order_with_an_exam(page):
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_function("['stopped', 'finished'].includes(document.querySelector('.dlab').dataset.state)")
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
