"""Values that the checks of a case share: each is computed once.

The captured output and the exception of the computation are repeated for every check that needs the value. So the
result of a check reads the same whether the check computed the value, reused it, or found it in the artifact cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


@dataclass
class CapturedOutput:
    """The lines that libraries printed inside a block. Set when the block ends."""

    lines: tuple[str, ...] = ()


class Capture(Protocol):
    """Captures what libraries print, and can print it again."""

    def capturing(self) -> Any:
        """A context manager that gives a :class:`CapturedOutput` and keeps the block's output from being printed."""
        ...

    def write(self, lines: tuple[str, ...]) -> None:
        """Print ``lines``."""
        ...


class NullCapture:
    """Captures nothing: libraries print where they always do."""

    @contextmanager
    def capturing(self) -> Iterator[CapturedOutput]:
        """See :class:`Capture`. The captured output stays empty."""
        yield CapturedOutput()

    def write(self, lines: tuple[str, ...]) -> None:
        """See :class:`Capture`. Prints nothing, since nothing was captured."""


@dataclass(frozen=True, slots=True)
class _Computed:
    value: Any
    error: BaseException | None
    output: tuple[str, ...]


class Memo:
    """Values by name, each computed when it is first requested."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._computed: dict[str, _Computed] = {}

    def get(self, name: str, compute: Callable[[], T]) -> T:
        """The value that ``compute`` returned the first time. An exception that it raised is raised every time."""
        if name not in self._computed:
            self._computed[name] = self._compute(compute)
        computed = self._computed[name]
        if computed.output:
            self._capture.write(computed.output)
        if computed.error is not None:
            raise computed.error
        value: T = computed.value
        return value

    def _compute(self, compute: Callable[[], T]) -> _Computed:
        value: Any = None
        error: BaseException | None = None
        with self._capture.capturing() as captured:
            try:
                value = compute()
            except BaseException as raised:  # noqa: BLE001 - kept, and raised for every caller
                error = raised
        return _Computed(value, error, captured.lines)
