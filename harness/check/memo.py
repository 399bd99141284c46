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
class CapturedOutput:
    """What libraries said inside a block; known when it ends."""

    lines: tuple[str, ...] = ()


class Capture(Protocol):
    """Something that hears what libraries print and can say it again."""

    def listening(self) -> Any:
        """A context that gives a :class:`CapturedOutput`, and keeps what is printed inside from being printed."""
        ...

    def say(self, lines: tuple[str, ...]) -> None:
        """Print ``lines``."""
        ...


class NullCapture:
    """Leaves what libraries print where they print it."""

    @contextmanager
    def listening(self) -> Iterator[CapturedOutput]:
        """See :class:`Capture`; nothing is heard."""
        yield CapturedOutput()

    def say(self, lines: tuple[str, ...]) -> None:
        """See :class:`Capture`; nothing was heard."""


@dataclass(frozen=True, slots=True)
class _Made:
    value: Any
    error: BaseException | None
    said: tuple[str, ...]


class Memo:
    """Things by name, each made when it is first asked for."""

    def __init__(self, capture: Capture) -> None:
        self._ear = capture
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
