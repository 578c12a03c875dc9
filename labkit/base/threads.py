"""Limit how long an OpenMP thread spins while it waits for work. Without a limit, parallel runs slow each other down.

OpenMP reads its settings when its library is loaded, so `import labkit` sets them. Child processes inherit them.
"""

from __future__ import annotations

import os
import sys
import warnings

# GNU OpenMP (torch on Linux) counts iterations of its wait loop; Intel's and LLVM's (macOS, Windows, conda) count milliseconds.
LIMITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}


def bound_spinning() -> None:
    """Set the limits that the user has not set. Warns if torch, and with it OpenMP, is already loaded: then they have no effect."""
    if "OMP_WAIT_POLICY" in os.environ:  # the user's own setting for the same thing
        return
    unset = {name: value for name, value in LIMITS.items() if name not in os.environ}
    torch = sys.modules.get("torch")
    if torch and unset == LIMITS and torch.get_num_threads() > 1:
        wanted = " ".join(f"{name}={value}" for name, value in LIMITS.items())
        warnings.warn(
            "torch was imported before labkit, so its threads spin without a limit while they wait. A single run loses nothing, but "
            f"parallel runs on this machine have about half the speed. Import labkit first, or start Python with {wanted}.",
            RuntimeWarning,
            stacklevel=3,
        )
    os.environ.update(unset)
