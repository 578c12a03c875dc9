"""A pen for tests of figures: it remembers what it was asked to draw."""

from __future__ import annotations


class Strokes:
    """A pen that only remembers: (kind, arguments) in the order drawn."""

    figure = None
    width, height = 7.4, 3.0  # inches

    def __init__(self):
        self.drawn: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, kind):
        return lambda *args, **kwargs: self.drawn.append((kind, args, kwargs))

    def of(self, kind):
        return [(args, kwargs) for name, args, kwargs in self.drawn if name == kind]

    @property
    def texts(self):
        return [args[2] for args, _ in self.of("text")]
