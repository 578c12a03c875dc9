"""A registry: entries by name, each added by a decorator on the function that it describes.

CLAIMS = Registry("claim", Claim, "measure", "labkit.studies.claims.ways", ...)
claim = CLAIMS.register

@claim("online", "On-policy distillation is better.", measured=..., published=...)
def online() -> Finding: ...

CLAIMS["online"].measure()                # CLAIMS["onlin"] raises: unknown claim 'onlin'. Did you mean 'online'? ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from labkit.base.errors import LabError, unknown

E = TypeVar("E")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Mapping[str, E], Generic[E]):
    """A mapping from names to entries, in the order in which they were added.

    what: what messages call an entry, such as "divergence".
    entry: makes an entry from a name and fields.
    function: the entry's field that holds the decorated function.
    parts: the modules whose entries come first, in this order; they are imported when the registry is first read.
    """

    def __init__(self, what: str, entry: Callable[..., E], function: str, *parts: str) -> None:
        self.what, self._entry, self._function, self._parts = what, entry, function, parts
        self._entries: dict[str, E] = {}
        self._by: dict[str, Callable[..., Any]] = {}

    def register(self, name: str, *args: Any, **fields: Any) -> Callable[[F], F]:
        """A decorator that adds a function. The same function may be added again, as when a cell is run twice.

        Raises `LabError` if another function has this name.
        """

        def add(function: F) -> F:
            before = self._by.get(name, function)
            if (before.__module__, before.__qualname__) != (function.__module__, function.__qualname__):
                raise LabError(f"{self.what} {name!r} is already defined in {before.__module__}: choose another name.")
            self._entries[name] = self._entry(name, *args, **{self._function: function}, **fields)
            self._by[name] = function
            return function

        return add

    def _loaded(self) -> dict[str, E]:
        if self._parts:
            for part in self._parts:
                importlib.import_module(part)
            place = {part: i for i, part in enumerate(self._parts)}  # a part may have been imported before the others
            first = sorted(self._entries, key=lambda name: place.get(self._by[name].__module__, len(place)))
            self._entries, self._parts = {name: self._entries[name] for name in first}, ()
        return self._entries

    def __getitem__(self, name: str) -> E:
        """Raises `LabError` for an unknown name, with the nearest known one."""
        if name not in self:
            raise unknown(self.what, name, self)
        return self._loaded()[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._loaded().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._loaded()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())
