"""What a lower precision costs: ``harness sensitivity`` by layer, ``harness ladder`` by precision and runtime.

The command calls functions of this package in a separate process (:mod:`harness.explain.process`), one step at a time:
a library that crashes on one file costs that step alone. What a step measured is kept in a journal at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.engine.processes.output_capture import OutputCapture
from harness.errors import HarnessError, UsageError
from harness.result import Stage

Announce = Callable[[Stage], None]
START_SECONDS = 1800.0
STEP_FACTOR, STEP_SECONDS = 30.0, 300.0
"""A step is ended after so many times the time of the first one, and not before so many seconds."""


@dataclass(frozen=True, slots=True)
class Problems:
    """Why the model cannot be prepared: one sentence each."""

    problems: tuple[str, ...]


class Listener(Protocol):
    """Shows the progress of a search."""

    def tell(self, line: str) -> None:
        """A line for the user."""
        ...

    def begin(self, total: int, unit: str = ...) -> None:
        """At most ``total`` choices are measured."""
        ...

    def advance(self) -> None:
        """One more is done."""
        ...

    def end(self) -> None:
        """All are done."""
        ...


def quiet(scratch: Path) -> None:
    """Keep what libraries print off the terminal, for the rest of this process."""
    OutputCapture(scratch / "printed").redirect()


def torch_is_here() -> bool:
    """True if torch is installed. A model file needs none."""
    from importlib.util import find_spec

    return find_spec("torch") is not None


def make_folder(folder: Path) -> None:
    """Make the folder for results. Raises :class:`UsageError` where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {folder}: {error.strerror}; name a folder that can be written") from error


def write_texts(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the texts by name into ``folder`` and return their paths. Raises :class:`HarnessError` if it cannot."""
    paths = []
    for name, text in files.items():
        path = folder / name
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"{path}: {error.strerror}; make room, or name another folder with -o") from error
        paths.append(path)
    return paths
