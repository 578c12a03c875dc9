"""`labkit lab`: open JupyterLab on the first notebook."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

from labkit.base.errors import UNREADABLE, need
from labkit.base.files import data_dir, home_dir

HELP = "open the lab in JupyterLab, on the first notebook"
FIRST = "00_distil_in_a_minute.ipynb"
SETTINGS = Path(__file__).parent / "settings"
IDLE = 600  # seconds after which the kernel of a closed lesson ends


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="port to serve on (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")


def run(options: argparse.Namespace) -> int:
    """Become JupyterLab, so that signals reach it as they reach `jupyter lab`: Ctrl-C asks, SIGTERM ends it."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise need("jupyterlab", "labkit lab")
    root = data_dir().parent
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/notebooks/{FIRST}"]
    command += server_options(home_dir())
    command += [f"--port={options.port}"] if options.port else []
    command += ["--no-browser"] if options.no_browser else []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
        print("You are root: JupyterLab is started with --allow-root, so its notebooks may change any file here.", flush=True)
    print(
        "Close a lesson's tab when you have done with it: ten minutes later its kernel ends, and gives its memory back. What you predicted,"
    )
    print("checked and ran is kept. A run that is still going is not ended, but a paused one is.", flush=True)
    if os.name == "posix":
        os.chdir(root)
        sys.stdout.flush()
        os.execv(sys.executable, command)
    return _waited_for(subprocess.Popen(command, cwd=root))


def server_options(home: Path) -> list[str]:
    """What makes JupyterLab the lab's: no dialogs, no news from the network, no file list at first, and kernels that end when they idle."""
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    folder = home / "workspaces"
    with contextlib.suppress(OSError):  # a home that cannot be written: then the file list is open
        workspaces, as_left = WorkspacesManager(str(folder)), False
        with contextlib.suppress(*UNREADABLE):  # a damaged one is written again
            as_left = bool(workspaces.load("default")["data"])
        if not as_left:
            workspaces.save("default", (SETTINGS / "workspace.json").read_text(encoding="utf-8"))
    return [
        f"--LabApp.app_settings_dir={SETTINGS}",
        f"--LabApp.workspaces_dir={folder}",
        f"--MappingKernelManager.cull_idle_timeout={IDLE}",  # of kernels that no tab shows; a board's messages count as work
        f"--MappingKernelManager.cull_interval={IDLE // 10}",
    ]


def _waited_for(server: subprocess.Popen) -> int:
    """Wait for a server where no process can become another, as on Windows: it gets Ctrl-C itself, and SIGTERM from here.

    Returns its exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    return server.wait()
