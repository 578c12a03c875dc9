"""JupyterLab in Debian's Chromium, for the browser tests and the bench: a real server, a real kernel, real clicks."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from labkit.cli import lab

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_KERNEL_IS_IDLE = """async () => {
    const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
    if (!context) return false;
    await context.ready;
    return context.session?.kernel?.status === 'idle';
}"""


@contextlib.contextmanager
def jupyterlab(work: Path, **settings: str) -> Iterator[str]:
    """The address of a JupyterLab that serves a copy of the notebooks in `work`, with an empty lab home there, and more settings of its
    environment."""
    shutil.copytree(ROOT / "notebooks", work / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = (
        os.environ
        | settings
        | {
            "LABKIT_HOME": str(work / "home"),
            "JUPYTER_CONFIG_DIR": str(work / "config"),
            "JUPYTER_DATA_DIR": str(work / "data"),
        }
    )
    environment.pop("LABKIT_DATA", None)
    command = [sys.executable, "-m", "jupyterlab", f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={work}", "--LabApp.expose_app_in_browser=True"]
    command += lab.server_options(work / "home")
    with (work / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"JupyterLab did not start:\n{(work / 'server.log').read_text()[-3000:]}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def opened(address: str, notebook: str = "00_distil_in_a_minute.ipynb", reset: str = "?reset", size: tuple[int, int] = (1500, 1100)):
    """A page with the notebook open and its kernel idle. reset: as in `visit`."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "Chromium is missing: `make browser` installs Debian's"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        visit(page, address, notebook, reset)
        yield page
        browser.close()


def visit(page, address: str, notebook: str, reset: str = "?reset") -> None:
    """Open a notebook on this page, and wait until its kernel is idle.

    reset: "" for JupyterLab as `labkit lab` opens it first; otherwise its own layout, with the file list.
    """
    page.set_default_timeout(90_000)
    page.goto(f"{address}/lab/tree/notebooks/{notebook}{reset}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(_KERNEL_IS_IDLE)


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


def run_named(page, name: str) -> None:
    """Run the cell with this id, without waiting for it."""
    run_cell(
        page, page.evaluate("(id) => [...window.jupyterapp.shell.currentWidget.content.model.cells].findIndex(c => c.id === id)", name)
    )


def press(page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).first.click()


def board(page):
    return page.locator(".dlab").first


def step_of(page) -> int:
    return int(board(page).get_attribute("data-step") or 0)


def wait_for_step(page, at_least: int) -> None:
    page.wait_for_function("(n) => Number(document.querySelector('.dlab')?.dataset.step ?? 0) >= n", arg=at_least)


def wait_for_state(page, *states: str) -> None:
    page.wait_for_function("(states) => states.includes(document.querySelector('.dlab')?.dataset.state)", arg=list(states))


def slider(page, label: str):
    """The handle of a slider, by its label: what the keyboard and a screen reader get hold of."""
    row = page.locator(".labkit-controls .widget-hslider, .labkit-controls .jupyter-widget-hslider", has_text=label).first
    return row.locator(".noUi-handle").first
