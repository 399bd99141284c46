"""What several checks share is made once; what was said, and what was raised, comes again for each that asks.

So a row reads the same whether its check was the first to need a thing, or the last, or found it in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass
class Heard:
    """What libraries said inside a block; known when it ends."""

    lines: tuple[str, ...] = ()


class Ear(Protocol):
    """Something that hears what libraries print and can say it again."""

    def listening(self) -> Any:
        """A context that gives a :class:`Heard`, and keeps what is printed inside from being printed."""
        ...

    def say(self, lines: tuple[str, ...]) -> None:
        """Print ``lines``."""
        ...


class Deaf:
    """Leaves what libraries print where they print it."""

    @contextmanager
    def listening(self) -> Iterator[Heard]:
        """See :class:`Ear`; nothing is heard."""
        yield Heard()

    def say(self, lines: tuple[str, ...]) -> None:
        """See :class:`Ear`; nothing was heard."""


@dataclass(frozen=True, slots=True)
class _Made:
    value: Any
    error: BaseException | None
    said: tuple[str, ...]


class Once:
    """Things by name, each made when it is first asked for."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self._made: dict[str, _Made] = {}

    def get(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` returned the first time. What it raised then is raised every time."""
        if name not in self._made:
            self._made[name] = self._make(make)
        made = self._made[name]
        if made.said:
            self._ear.say(made.said)
        if made.error is not None:
            raise made.error
        value: T = made.value
        return value

    def _make(self, make: Callable[[], T]) -> _Made:
        value: Any = None
        error: BaseException | None = None
        with self._ear.listening() as heard:
            try:
                value = make()
            except BaseException as raised:  # noqa: BLE001 - kept, and raised for everyone who asks
                error = raised
        return _Made(value, error, heard.lines)
