"""The speculation lens: the speed-up by a draft, from acceptance, cost and tokens a round."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from labkit.base.errors import LabError, shown
from labkit.base.kinds import kinds_checked
from labkit.speculative.theory import best_gamma, speedup, tokens_per_round
from labkit.views import figures
from labkit.views.lenses.base import STYLE, WIDE, Lens


class SpeculationLens(Lens):
    """Controls: acceptance, tokens a round and costs. Picture: the speed-up by tokens a round and cost.

    A measured acceptance or cost beyond the end of its slider is put there. Raises `LabError` for a value that nothing can have.
    """

    @kinds_checked
    def __init__(self, alpha: float = 0.8, gamma: int = 4, cost: float = 0.1, verify: float = 0.0) -> None:
        most = figures.GAMMAS[-1]
        for name, value, least, end in (
            ("alpha", alpha, 0, 1),
            ("gamma", gamma, 1, most),
            ("cost", cost, 0, 1e9),
            ("verify", verify, 0, 1e9),
        ):
            if not least <= value <= end:
                raise LabError(f"{name}={shown(value)} is out of range: it must be from {least} to {end:g}.")

        def slider(kind: Any, name: str, value: float, low: float, high: float, step: float, help: str) -> widgets.ValueWidget:
            looks = {"tooltip": help, "style": STYLE, "layout": WIDE, "continuous_update": False}
            return kind(value=min(high, max(low, value)), min=low, max=high, step=step, description=name, **looks)

        real, whole = widgets.FloatSlider, widgets.IntSlider
        self.alpha = slider(real, "Acceptance", alpha, 0.0, 0.99, 0.01, "Probability that the target accepts a token. Arrow keys move it.")
        self.gamma = slider(whole, "Tokens a round", gamma, 1, most, 1, "How many tokens the draft proposes a round.")
        self.cost = slider(real, "Draft's cost", cost, 0.01, 1.0, 0.01, "Cost of drafting one token, in passes of the target.")
        self.verify = slider(real, "To verify", verify, 0.0, 0.2, 0.01, "Cost of judging one token, in passes of the target.")
        room = widgets.Output(layout={"min_height": "470px"})  # fixed, so that the page does not move at every change
        super().__init__(self.alpha, self.gamma, self.cost, self.verify, picture=room)

    def _show(self, drawing: figures.Drawing) -> None:
        kind = {"output_type": "display_data"}
        self.picture.outputs = tuple({**kind, "data": data, "metadata": metadata} for data, metadata in drawing.bundles())

    def look(self) -> tuple[figures.Drawing, str]:
        alpha, gamma, cost, verify = self.alpha.value, self.gamma.value, self.cost.value, self.verify.value
        best, most = best_gamma(alpha, cost, verify, most=figures.GAMMAS[-1])
        gain = speedup(alpha, gamma, cost, verify)
        advice = f"best: <b>\u03b3 = {best}</b>, {most:.2f} times." if best else "no number of tokens pays: use the target alone."
        sentence = (
            f"\u03b3 = {gamma}: {tokens_per_round(alpha, gamma):.2f} tokens a round that costs {1 + gamma * (cost + verify):.2f} passes, "
            f"<b>{gain:.2f}</b> times as fast as the target alone; {advice} Drafting pays as long as acceptance is above the cost of a "
            f"token, {cost + verify:.2f}."
        )
        return figures.speedups(alpha, gamma, cost, verify, backend="plotly"), sentence
