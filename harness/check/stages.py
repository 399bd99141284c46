"""The stages of a check: their wall time, and the symptom and message of a stage that fails."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.check.cache.disk_space import check_free_space, is_disk_error
from harness.errors import (
    MAX_CAUSES,
    MAX_TEXT_LENGTH,
    DiskFull,
    HarnessError,
    StageError,
    bounded_text,
    cause_chain,
    class_module,
    class_name,
    escape_controls,
    explicit_cause,
    raised_by_signal_handler,
    safe_str,
)
from harness.forked import exit_if_forked
from harness.result import Result, Stage, Symptom
from harness.runtimes._messages import informative_part

OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
)
FurtherWork = Literal["blame", "layers", "weights", "timing", "packing"]
"""What is done after the verdict of a check: finding the blame, comparing the layers, or the weights; timing a pass.
After an export into a bundle: packing its layers."""
MAX_MESSAGE_LENGTH = 2000
"""Characters of a message that are kept."""

_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESSES = re.compile(r"0x[0-9a-fA-F]{6,}")
# An execution provider's name for fused nodes holds a digest of the graph, which differs from file to file.
_FUSED_NODES = re.compile(r"(ExecutionProvider)_\d{6,}(?:_\d+)*")
# torch numbers the classes that it compiles and the code that it generates in a process.
_NUMBERS_OF_TORCH = re.compile(r"\.___torch_mangle_\d+|(?<=<eval_with_key>)\.\d+")
_ARTIFACT_PATHS = re.compile(r"[^\s'\"]*/(model\.(?:onnx|pt))")
_ONLY_TYPES = "Issues with types "  # onnx.reference
_EXIT_CODE = vars(SystemExit)["code"]


@dataclass
class StageStopped(Exception):
    """A stage did not finish. ``cause`` is the exception that ended it."""

    stage: Stage
    symptom: Symptom
    message: str
    cause: BaseException


class Clock:
    """The wall time in seconds of each stage of one check.

    ``announce`` is called with each stage as it begins; ``current_stage`` is the one that began last. ``folder`` is
    harness's own folder, where the files of the check are. ``keep`` is called with each verdict (:meth:`keep`).
    """

    def __init__(
        self,
        announce: Callable[[Stage], None] = lambda _stage: None,
        folder: Path | None = None,
        keep: Callable[[Result, FurtherWork], None] = lambda _result, _work: None,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.current_stage: Stage | None = None
        self._announce, self._folder, self._keep = announce, folder, keep

    def keep(self, result: Result, before: FurtherWork) -> None:
        """Keep ``result``, whose verdict is known, in case that the work after it ends the process."""
        self._keep(result, before)

    def stage(self, name: Stage) -> StageTimer:
        """Time the block as stage ``name``. Raises :class:`StageStopped` for an exception inside it.

        Any exception of the code under test counts, ``SystemExit`` and ``KeyboardInterrupt`` included: it ends the
        check and not the worker. Raises :class:`DiskFull` if harness's own folder is full.
        """
        self.current_stage = name
        self._announce(name)
        return StageTimer(name, self.seconds, self._folder)


class StageTimer:
    """The context manager of one stage. A class rather than a generator for speed: each check opens about six."""

    def __init__(self, name: Stage, seconds: dict[str, float], folder: Path | None) -> None:
        self._name, self._seconds, self._folder = name, seconds, folder
        self._process = os.getpid()

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        exit_if_forked(self._process)
        name = self._name
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - self._start
        if error is None or issubclass(type(error), StageStopped) or not is_from_code_under_test(error):
            return
        if self._folder is not None and is_disk_error(error):
            check_free_space(self._folder)
        raise StageStopped(name, symptom_of(error), message_of(error), error) from error


def is_from_code_under_test(error: BaseException) -> bool:
    """True if ``error`` ends only the check that raised it; False for a full disk and for a Ctrl-C of the user."""
    return not issubclass(type(error), DiskFull) and not raised_by_signal_handler(error)


def symptom_of(error: BaseException) -> Symptom:
    """The symptom that a result reports for ``error``."""
    kind = type(error)
    if issubclass(kind, StageError):
        return kind.symptom
    text = bounded_text(error).lower()
    if issubclass(kind, MemoryError) or any(phrase in text for phrase in OUT_OF_MEMORY):
        return "out-of-memory"
    # NotImplemented is ONNX Runtime's, NotImplementedError is Python's: the library says that it does not support this.
    return "unsupported" if class_name(error) in {"NotImplemented", "NotImplementedError"} else "exception"


def message_of(error: BaseException) -> str:
    """``error`` in one line: its class, unless it is one of harness's own, and the informative part of its text.

    - Which part of a library's text that is, :func:`harness.runtimes._messages.informative_part` decides.
    - If an exporter of torch wraps the failure in advice, or ONNX's evaluator in types, the message is the cause's.
    - Colour codes, addresses in memory, digests and torch's numbers in names, and the folders of harness's own files
      are removed, so that the same failure reads the same on every machine.
    - A text that is too long is cut, and its length is given.
    """
    for _ in range(MAX_CAUSES):
        cause = explicit_cause(error)
        wraps = class_module(error).startswith("torch.onnx") or safe_str(error).startswith(_ONLY_TYPES)
        if cause is None or not wraps:
            break
        error = cause
    if issubclass(type(error), SystemExit):
        code = safe_str(_EXIT_CODE.__get__(error))
        return f"the code called exit({_shortened(code[:MAX_TEXT_LENGTH], len(code))})"
    text = safe_str(error)
    message = informative_part(_ESCAPE_CODES.sub("", text[:MAX_TEXT_LENGTH])) or "no message"
    message = message[: 2 * MAX_MESSAGE_LENGTH]  # the patterns below take quadratic time on a hostile text
    message = _NUMBERS_OF_TORCH.sub("", message)
    message = _FUSED_NODES.sub(r"\1", _ADDRESSES.sub("0x...", _ARTIFACT_PATHS.sub(r"\1", message)))
    message = _shortened(message, len(text))
    return message if issubclass(type(error), HarnessError) else f"{class_name(error)}: {message}"


def _shortened(message: str, full_length: int) -> str:
    """``message``, cut to :data:`MAX_MESSAGE_LENGTH`. If it or the full text is too long, its length is added."""
    if len(message) <= MAX_MESSAGE_LENGTH and full_length <= MAX_TEXT_LENGTH:
        return escape_controls(message)
    beginning = escape_controls(message[:MAX_MESSAGE_LENGTH])
    return f"{beginning} ... ({max(len(message), full_length):,} characters in all)"


def chain_text(error: BaseException) -> str:
    """The texts of ``error`` and of all its causes, one per line."""
    return "\n".join(map(bounded_text, cause_chain(error)))
