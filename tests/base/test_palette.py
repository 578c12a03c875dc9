"""Roles can be told apart by everybody, text in their colours can be read, and the board has the same colours as the figures.

Colour vision: G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A physiologically-based model for simulation of color vision deficiency,
IEEE TVCG 15(6), 2009, table 1, severity 1.0; on linear RGB. Difference: CIEDE2000, after G. Sharma, W. Wu, E. N. Dalal, The CIEDE2000
color-difference formula, Color Research and Application 30(1), 2005.
"""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from labkit.base import palette
from labkit.base.files import data_dir
from labkit.base.palette import GLYPHS, INK, MUTED, PALETTE, PAPER, SHAPES, darkened, on_dark_pages, shade, tint

VISIONS = {
    "all colours": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
TOLD_APART = ("teacher", "student", "baseline", "truth", "alarm")
DARK_PAGES = (PAPER.dark, "#15181c", "#1f1f1f", "#1e1e1e")  # JupyterLab's, the board's, VS Code's two
LOOKS = {"light": str, "dark": lambda colour: colour.dark}


def linear(code: str) -> np.ndarray:
    parts = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of a linear colour, under D65."""
    share = TO_XYZ @ rgb / TO_XYZ.sum(1)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 of two colours in CIELAB."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    c1, c2 = math.hypot((1 + g) * a1, b1), math.hypot((1 + g) * a2, b2)
    h1, h2 = math.degrees(math.atan2(b1, (1 + g) * a1)) % 360, math.degrees(math.atan2(b2, (1 + g) * a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = (h1 + turn / 2) % 360 if c1 * c2 else h1 + h2
    dh = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    cos = lambda times, less: math.cos(math.radians(times * mean_h - less))  # noqa: E731
    t = 1 - 0.17 * cos(1, 30) + 0.24 * cos(2, 0) + 0.32 * cos(3, -6) - 0.20 * cos(4, 63)
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    r = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(60 * math.exp(-(((mean_h - 275) / 25) ** 2))))
    parts = ((l2 - l1) / s_l, (c2 - c1) / s_c, dh / s_h)
    return math.sqrt(sum(part**2 for part in parts) + r * parts[1] * parts[2])


def contrast(one: str, other: str) -> float:
    """Of WCAG 2: 1 to 21."""
    high, low = sorted((float(linear(code) @ TO_XYZ[1]) + 0.05 for code in (one, other)), reverse=True)
    return high / low


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_is_that_of_the_paper(one, other, wanted):
    """Pairs of table 1 of Sharma, Wu and Dalal."""
    assert difference(np.array(one), np.array(other)) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("vision", VISIONS)
def test_roles_can_be_told_apart(vision, look):
    seen = {role: lab(np.clip(VISIONS[vision] @ linear(LOOKS[look](PALETTE[role])), 0, 1)) for role in TOLD_APART}
    found = {pair: round(difference(seen[pair[0]], seen[pair[1]]), 1) for pair in itertools.combinations(TOLD_APART, 2)}
    assert min(found.values()) >= 20, found


def test_text_can_be_read_on_paper_and_on_shaded_cells():
    for colour in (*(PALETTE[role] for role in TOLD_APART), INK, MUTED):
        assert contrast(colour, PAPER) >= 4.5
        assert min(contrast(colour.dark, page) for page in DARK_PAGES) >= 4.5
    for role in ("student", "baseline"):
        cell = shade(PALETTE[role], 1.0)
        assert contrast(INK, cell) >= 4.5
        assert contrast(INK.dark, cell.dark) >= 4.5


def test_the_live_board_has_the_same_colours():
    css = (data_dir().parent / "labkit" / "views" / "board" / "board.css").read_text(encoding="utf-8")
    light, _, dark = css.partition('[data-theme="dark"]')
    for role, colour in [*PALETTE.items(), ("muted", MUTED), ("hair", palette.HAIR)]:
        assert f"--dlab-{role}: {colour};" in light, f"{role} has another colour on the light board"
        assert f"--dlab-{role}: {colour.dark};" in dark, f"{role} has another colour on the dark board"


def test_no_other_file_has_a_colour_of_a_role():
    root = data_dir().parent / "labkit"
    codes = {code for colour in PALETTE.values() for code in (str(colour), colour.dark)}
    for path in [*root.rglob("*.py"), *root.rglob("*.js"), *root.rglob("*.css")]:
        if path.name not in ("palette.py", "board.css"):
            assert not codes & set(re.findall("#[0-9a-f]{6}", path.read_text(encoding="utf-8"))), path


def test_each_role_has_a_shape_of_its_own_and_the_glyph_of_that_shape():
    assert set(SHAPES) == set(GLYPHS) == set(PALETTE)
    assert len(set(SHAPES.values())) == len(set(GLYPHS.values())) == len(set(PALETTE.values())) == len(PALETTE)


def test_a_dark_picture_has_the_dark_twin_of_every_colour():
    cell = tint(PALETTE["student"], 0.5)
    assert darkened(f"fill: {cell}; stroke: {PALETTE['teacher']}; color: #123456") == (
        f"fill: {cell.dark}; stroke: {PALETTE['teacher'].dark}; color: #123456"
    )
    assert tint(PALETTE["student"], 1.0) == PALETTE["student"]
    assert tint(PALETTE["student"], 0.0).dark == PAPER.dark


def test_the_calls_that_the_module_shows_are_real():
    calls = re.findall(r"^    (.+?) {2,}#", palette.__doc__, re.M)
    assert len(calls) == 3
    colour, mixed, style = (eval(call, vars(palette).copy()) for call in calls)
    assert colour == (PALETTE["student"], PALETTE["student"].dark)
    assert mixed == tint(PALETTE["student"], 0.3)
    assert f".my-box {{ --dlab-teacher: {PALETTE['teacher']}" in style


def test_rules_for_dark_pages_are_not_for_printed_paper():
    assert on_dark_pages(".x", "display: none").count("@media screen") == 2
