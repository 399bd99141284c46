"""Differences that a change makes on purpose, each with its reason.

A file is a YAML list; ``old`` and ``new`` may be left out:

    - cases: avgpool2d/*
      targets: onnx-*/*
      field: blame
      old: null
      new: exporter
      why: "issue 27: the exporter is found where no definition exists"

``cases``, ``targets`` and ``field`` are globs in which brackets match themselves. ``field`` is as the replay prints
it: ``status``, ``outputs[].max_abs``, ``row`` for an added or lost row, ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from benchmarks.replay.compare import Difference
from benchmarks.replay.trees import ReplayError

REQUIRED = ("cases", "targets", "field", "why")
OPTIONAL = ("old", "new")


@dataclass(frozen=True, slots=True)
class Argued:
    """One argued difference. ``values`` holds ``old`` and ``new`` where the entry names them."""

    where: str
    cases: str
    targets: str
    field: str
    why: str
    values: tuple[tuple[str, Any], ...] = ()

    def covers(self, case: str, target: str) -> bool:
        """Return whether the entry applies to this row."""
        return _matches(self.cases, case) and _matches(self.targets, target)

    def explains(self, difference: Difference) -> bool:
        """Return whether the entry applies to this difference."""
        return (
            self.covers(difference.case, difference.target)
            and _matches(self.field, difference.field)
            and all(getattr(difference, side) == value for side, value in self.values)
        )


def read_argued(path: Path) -> list[Argued]:
    """The entries of a file. Raises :class:`ReplayError` if the file is not such a list."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReplayError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(raw, list):
        raise ReplayError(f"{path}: not a list; write entries with {', '.join(REQUIRED)}")
    return [_entry(f"{path}: entry {number}", each) for number, each in enumerate(raw, 1)]


def _entry(where: str, raw: Any) -> Argued:
    if not isinstance(raw, dict):
        raise ReplayError(f"{where}: not a mapping; write {', '.join(REQUIRED)}")
    if unknown := [str(key) for key in raw if key not in REQUIRED + OPTIONAL]:
        raise ReplayError(f"{where}: unknown key {unknown[0]!r}; one of {', '.join(REQUIRED + OPTIONAL)}")
    for key in REQUIRED:
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise ReplayError(f"{where}: {key} must be a text that is not empty")
    values = tuple((side, raw[side]) for side in OPTIONAL if side in raw)
    return Argued(where, raw["cases"], raw["targets"], raw["field"], raw["why"], values)


def split(
    differences: Iterable[Difference], entries: Sequence[Argued]
) -> tuple[list[Difference], list[tuple[Difference, Argued]], list[Argued]]:
    """Return the differences without an entry, the argued ones with their entry, and the entries that match nothing."""
    unargued: list[Difference] = []
    argued: list[tuple[Difference, Argued]] = []
    used: set[str] = set()
    for difference in differences:
        matching = [entry for entry in entries if entry.explains(difference)]
        used.update(entry.where for entry in matching)
        if matching:
            argued.append((difference, matching[0]))
        else:
            unargued.append(difference)
    return unargued, argued, [entry for entry in entries if entry.where not in used]


def _matches(pattern: str, text: str) -> bool:
    return fnmatchcase(text, pattern.replace("[", "[[]"))
