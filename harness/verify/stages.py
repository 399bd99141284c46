"""The stages of a check, and what went wrong where one does not finish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError, NoRoom, StageError
from harness.result import Stage, Symptom
from harness.verify.causes import causes
from harness.verify.room import full

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

    def stage(self, name: Stage) -> Timed:
        """Time the block as ``name``, and turn whatever ends it early into :class:`StageStopped`.

        ``SystemExit`` is caught as well: a layer that calls ``exit()`` ends its own check, not the worker.
        Raises :class:`NoRoom` where it is the disk that takes no more.
        """
        self._announce(name)
        return Timed(name, self.seconds)


class Timed:
    """A block of a stage. A class and no generator, since a check opens half a dozen."""

    def __init__(self, name: Stage, seconds: dict[str, float]) -> None:
        self._name, self._seconds = name, seconds

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        name = self._name
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - self._start
        if isinstance(error, Exception | SystemExit) and not isinstance(error, NoRoom):
            if said := full(error):
                raise NoRoom(f"{said} in the {name} stage; make room, then go on with --resume") from error
            raise StageStopped(name, symptom_of(error), message_of(error), error) from error


def symptom_of(error: BaseException) -> Symptom:
    """The contract's word for ``error``."""
    if isinstance(error, StageError):
        return error.symptom
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY):
        return "out-of-memory"
    # ONNX Runtime's own NotImplemented, and Python's: the one who raises says that it does not do this.
    return "unsupported" if type(error).__name__ in {"NotImplemented", "NotImplementedError"} else "exception"


def message_of(error: BaseException) -> str:
    """``error`` in one line: its kind, unless it is one of harness's own, and the first line that says something.

    Where that line only announces, as those of OpenVINO's call stack do one after the other, the first one that does
    not follows it. Where an exporter of torch wraps what went wrong in advice, the cause speaks. Escape codes for
    colours, addresses in memory, digests in names and the folders of harness's own files are left out, so that the same
    failure reads the same anywhere.
    """
    if isinstance(error, SystemExit):
        return f"the code called exit({error.code})"
    if type(error).__module__.startswith("torch.onnx") and error.__cause__ is not None:
        return message_of(error.__cause__)
    lines = [line.strip() for line in ESCAPES.sub("", str(error)).splitlines() if line.strip()]
    said = " ".join(lines[0].split()) if lines else "no message"
    if said.endswith(":") and len(lines) > 1:
        said += f" {next((line for line in lines[1:] if not line.endswith(':')), lines[1])}"
    said = FUSED.sub(r"\1", ADDRESSES.sub("0x...", OWN_FILES.sub(r"\1", said)))
    return said if isinstance(error, HarnessError) else f"{type(error).__name__}: {said}"


def chain_text(error: BaseException) -> str:
    """Everything that ``error`` and what caused it say."""
    return "\n".join(map(str, causes(error)))
