"""What several test files need, and no fixture is."""

from __future__ import annotations

import json

from labkit.records.experiment import Experiment


def toml(exp: Experiment) -> str:
    """A recipe as a TOML file holds it."""
    return "[experiment]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in exp.to_dict().items())
