"""The stages of a check, and what went wrong where one does not finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.errors import HarnessError, StageError
from harness.result import Stage, Symptom

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")


@dataclass
class StageStopped(Exception):
    """A stage did not finish; ``cause`` is the exception that ended it."""

    stage: Stage
    symptom: Symptom
    message: str
    cause: BaseException


class Clock:
    """The wall time of each stage of one check; ``announce`` is told each stage as it begins."""

    def __init__(self, announce: Callable[[Stage], None] = lambda _stage: None) -> None:
        self.seconds: dict[str, float] = {}
        self._announce = announce

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Time the block as ``name``, and turn whatever ends it early into :class:`StageStopped`.

        ``SystemExit`` is caught as well: a layer that calls ``exit()`` ends its own check, not the worker.
        """
        self._announce(name)
        start = time.perf_counter()
        try:
            yield
        except (Exception, SystemExit) as error:
            raise StageStopped(name, symptom_of(error), message_of(error), error) from error
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def symptom_of(error: BaseException) -> Symptom:
    """The contract's word for ``error``."""
    if isinstance(error, StageError):
        return error.symptom  # type: ignore[return-value]
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return "out-of-memory"
    return "exception"


def message_of(error: BaseException) -> str:
    """``error`` in one line: its kind, unless it is one of harness's own, and the first line that says something."""
    if isinstance(error, SystemExit):
        return f"the code called exit({error.code})"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[0].split()) if lines else "no message"
    if said.endswith(":") and len(lines) > 1:
        said += f" {lines[1]}"
    return said if isinstance(error, HarnessError) else f"{type(error).__name__}: {said}"


def chain_text(error: BaseException) -> str:
    """Everything that ``error`` and what caused it say."""
    said: list[str] = []
    link: BaseException | None = error
    while link is not None and len(said) < 20:
        said.append(str(link))
        link = link.__cause__ or link.__context__
    return "\n".join(said)
