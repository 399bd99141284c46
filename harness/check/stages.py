"""The stages of a check, and what went wrong where one does not finish."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.check.cache.disk_space import is_about_room, see_room
from harness.errors import (
    FARTHEST,
    MOST_READ,
    DiskFull,
    HarnessError,
    StageError,
    cause_of,
    causes,
    is_from_outside,
    kind_of,
    module_of,
    printable,
    read,
    text_of,
)
from harness.forked import end_if_forked
from harness.result import Stage, Symptom

OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
ADDRESSES = re.compile(r"0x[0-9a-fA-F]{6,}")
# A provider's name for the nodes that it took: a digest of the graph, another in each file.
FUSED = re.compile(r"(ExecutionProvider)_\d{6,}(?:_\d+)*")
OWN_FILES = re.compile(r"/\S*/(model\.(?:onnx|pt))")
LONGEST = 2000
"""So many characters of a message are kept."""


@dataclass
class StageStopped(Exception):
    """A stage did not finish; ``cause`` is the exception that ended it."""

    stage: Stage
    symptom: Symptom
    message: str
    cause: BaseException


class Clock:
    """The wall time of each stage of one check; ``announce`` is told each stage as it begins.

    ``folder`` is harness's own, where the check's files are. ``at`` is the stage that began last.
    """

    def __init__(self, announce: Callable[[Stage], None] = lambda _stage: None, folder: Path | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.at: Stage | None = None
        self._announce, self._folder = announce, folder

    def stage(self, name: Stage) -> Timed:
        """Time the block as ``name``, and turn whatever ends it early into :class:`StageStopped`.

        That is any exception of the code under test, ``SystemExit`` and ``KeyboardInterrupt`` too: it ends its own
        check, not the worker. Raises :class:`DiskFull` where harness's own folder takes no more.
        """
        self.at = name
        self._announce(name)
        return Timed(name, self.seconds, self._folder)


class Timed:
    """A block of a stage. A class and no generator, since a check opens half a dozen."""

    def __init__(self, name: Stage, seconds: dict[str, float], folder: Path | None) -> None:
        self._name, self._seconds, self._folder = name, seconds, folder
        self._process = os.getpid()

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        end_if_forked(self._process)
        name = self._name
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - self._start
        if error is None or issubclass(type(error), StageStopped) or not is_of_the_code(error):
            return
        if self._folder is not None and is_about_room(error):
            see_room(self._folder)
        raise StageStopped(name, symptom_of(error), message_of(error), error) from error


def is_of_the_code(error: BaseException) -> bool:
    """True where ``error`` ends the check that it is raised in; False for what ends more: a full disk, a Ctrl-C."""
    return not issubclass(type(error), DiskFull) and not is_from_outside(error)


def symptom_of(error: BaseException) -> Symptom:
    """The contract's word for ``error``."""
    kind = type(error)
    if issubclass(kind, StageError):
        return kind.symptom
    text = read(error).lower()
    if issubclass(kind, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return "out-of-memory"
    # ONNX Runtime's own NotImplemented, and Python's: the one who raises says that it does not do this.
    return "unsupported" if kind_of(error) in {"NotImplemented", "NotImplementedError"} else "exception"


def message_of(error: BaseException) -> str:
    """``error`` in one line: its kind, unless it is one of harness's own, and the first line that says something.

    Where that line only announces, as those of OpenVINO's call stack do one after the other, the first one that does
    not follows it. Where an exporter of torch wraps what went wrong in advice, the cause speaks. Escape codes for
    colours, addresses in memory, digests in names and the folders of harness's own files are left out, so that the same
    failure reads the same anywhere. Of a text beyond all bounds the beginning is kept, with its length.
    """
    for _ in range(FARTHEST):
        cause = cause_of(error)
        if cause is None or not module_of(error).startswith("torch.onnx"):
            break
        error = cause
    if issubclass(type(error), SystemExit):
        code = text_of(_EXIT_CODE.__get__(error))
        return f"the code called exit({_bounded(code[:MOST_READ], len(code))})"
    text = text_of(error)
    lines = [line.strip() for line in ESCAPES.sub("", text[:MOST_READ]).splitlines() if line.strip()]
    said = " ".join(lines[0].split()) if lines else "no message"
    if said.endswith(":") and len(lines) > 1:
        said += f" {next((line for line in lines[1:] if not line.endswith(':')), lines[1])}"
    said = said[: 2 * LONGEST]  # for what follows takes the square of it, where it is made for that
    said = _bounded(FUSED.sub(r"\1", ADDRESSES.sub("0x...", OWN_FILES.sub(r"\1", said))), len(text))
    return said if issubclass(type(error), HarnessError) else f"{kind_of(error)}: {said}"


_EXIT_CODE = vars(SystemExit)["code"]


def _bounded(said: str, whole: int) -> str:
    """``said``, cut where it is longer than a message may be; of a ``whole`` text that is long, with its length."""
    if len(said) <= LONGEST and whole <= MOST_READ:
        return printable(said)
    return f"{printable(said[:LONGEST])} ... ({max(len(said), whole):,} characters in all)"


def chain_text(error: BaseException) -> str:
    """Everything that ``error`` and what caused it say."""
    return "\n".join(map(read, causes(error)))
