"""What a model consists of, as ``harness scan`` shows and writes it; found in a separate process, which needs torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.result import Stage
from harness.scaffold.comparison import Question


@dataclass(slots=True)
class Configuration:
    """A configuration of a layer: the keys of its case, and the paths of the calls."""

    kind: str
    keys: Mapping[str, Any]
    paths: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NotCovered:
    """Calls without a case: what they are, why, and where they are made."""

    what: str
    reason: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScannedModel:
    """What a model consists of. ``inputs`` describe its inputs in words, ``whole`` are the keys of its own case."""

    configurations: tuple[Configuration, ...]
    layers: tuple[NotCovered, ...]
    functions: tuple[NotCovered, ...]
    inputs: tuple[str, ...]
    whole: Mapping[str, Any]

    @property
    def calls(self) -> int:
        """The calls of layers that have a case."""
        return sum(len(each.paths) for each in self.configurations)


@dataclass(frozen=True, slots=True)
class NoScan:
    """Why the model cannot be scanned: one sentence for each problem."""

    problems: tuple[str, ...]


def scan_model(_scratch: Path, question: Question, *, announce: Callable[[Stage], None]) -> ScannedModel | NoScan:
    """Build and run the model that ``question.reference`` names, and describe its layers."""
    from harness.check.stages import message_of
    from harness.scaffold.scan.observed import scanned

    os.chdir(question.home)
    announce("build")
    try:
        return scanned(question)
    except UsageError as error:
        return NoScan((str(error),))
    except BaseException as error:  # noqa: BLE001 - the user's own code: it is a line for the user
        return NoScan((f"{question.reference}: {message_of(error)}; make sure that it can be built and called",))
