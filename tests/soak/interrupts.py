from __future__ import annotations

from soak.core import Family

FAMILIES: dict[str, Family] = {}
