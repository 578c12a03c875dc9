"""Bound how long a thread of OpenMP spins while it waits for work: runs side by side otherwise take the processors from one another.

OpenMP reads its settings when its library is loaded, so `import labkit` sets them, and everything started from there inherits them.
"""

from __future__ import annotations

import os
import sys
import warnings

# GNU's OpenMP (torch on Linux) counts turns of its waiting loop; Intel's and LLVM's (macOS, Windows, conda) count milliseconds.
LIMITS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}


def bound_spinning() -> None:
    """Set the limits, except where the user has set them. Where torch, and with it OpenMP, is already loaded, warn of what is lost."""
    if "OMP_WAIT_POLICY" in os.environ:  # the user's own word on the same matter
        return
    unset = {name: value for name, value in LIMITS.items() if name not in os.environ}
    torch = sys.modules.get("torch")
    if torch and unset == LIMITS and torch.get_num_threads() > 1:
        wanted = " ".join(f"{name}={value}" for name, value in LIMITS.items())
        warnings.warn(
            "torch was imported before labkit, so its threads spin without a limit while they wait: a run alone loses nothing, but runs "
            f"side by side on this machine are slowed to about half. Import labkit first, or start Python with {wanted}.",
            RuntimeWarning,
            stacklevel=3,
        )
    os.environ.update(unset)
