"""Compares two reports row by row. Reads report.json as plain JSON, so that it depends on the Contract only.

A difference is one of three kinds:

- ``result``: a status, a number, a shape, a missing row; the replay fails.
- ``wording``: a text for people; listed.
- ``field``: a field that only one side has and that the Contract does not name, or an opaque value; listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["result", "wording", "field"]
Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]

CONTRACT = frozenset({"status", "stage", "symptom", "blame", "outputs", "placement"})
CONTRACT_OF_OUTPUT = frozenset(
    {"index", "shape", "dtype", "max_abs", "max_rel", "max_ulp", "mismatched", "of", "worst", "least_rtol"}
    | {"least_atol", "tolerance"}
)
WORDING = frozenset({"message", "log", "notes", "hint"})
"""Fields of a row that may differ freely. In other fields a text may change, but not appear or disappear."""
TEXT_OF_OUTPUT = frozenset({"problem", "inconclusive"})
RENAMED = {"blind": "inconclusive"}
"""Fields of an output that an older revision writes under another name."""
OPAQUE = frozenset({"artifact", "artifact_path", "where"})
"""Digests, paths and positions: they change with the exporting code and with the spec's lines, and are not results."""
NOT_COMPARED = frozenset({"case", "target", "seconds", "latency"})

ABSENT = "(absent)"
RUN = "run"
"""Stands for the target in a difference between whole runs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs. For a whole run, ``case`` is the part's name and ``target`` is :data:`RUN`."""

    part: str
    case: str
    target: str
    field: str
    old: Any
    new: Any
    kind: Kind

    @property
    def group(self) -> str:
        """What rows of the same difference have in common; long values and numbers are left out."""
        if any(isinstance(side, (dict, list, float)) for side in (self.old, self.new)) or "[]" in self.field:
            return self.field
        return f"{self.field}: {_short(self.old)} -> {_short(self.new)}"


@dataclass(frozen=True, slots=True)
class _Change:
    field: str
    old: Any
    new: Any
    kind: Kind


def rows_of(report: Mapping[str, Any]) -> Rows:
    """The rows of a report by case and target. Raises ``ValueError`` if two rows have the same."""
    rows = {(row["case"], row["target"]): row for row in report["results"]}
    if len(rows) != len(report["results"]):
        raise ValueError("two rows of the report have the same case and target")
    return rows


def compare(part: str, old: Rows, new: Rows) -> Iterator[Difference]:
    """Every difference between two runs of the same part, in the order of the old rows, then of the added ones."""
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield Difference(part, *key, "row", "present", ABSENT, "result")
        elif key not in old:
            yield Difference(part, *key, "row", ABSENT, "present", "result")
        else:
            for change in _row(old[key], new[key]):
                yield Difference(part, *key, change.field, change.old, change.new, change.kind)


def _row(old: Row, new: Row) -> Iterator[_Change]:
    for key in _keys(old, new):
        sides = old.get(key, ABSENT), new.get(key, ABSENT)
        if key in NOT_COMPARED:
            continue
        if key in WORDING | OPAQUE:
            if not _equal(*sides):
                yield _Change(key, *sides, "wording" if key in WORDING else "field")
        elif key in CONTRACT:
            yield from _outputs(*sides) if key == "outputs" else _changes(key, *sides, strict=True)
        elif ABSENT in sides:
            yield _Change(key, *sides, "field")
        else:
            yield from _changes(key, *sides, strict=False)


def _outputs(old: Any, new: Any) -> Iterator[_Change]:
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        yield from _changes("outputs", old, new, strict=True)
        return
    for before, after in zip(_renamed(old), _renamed(new), strict=True):
        for key in _keys(before, after):
            sides = before.get(key, ABSENT), after.get(key, ABSENT)
            if ABSENT in sides and key not in CONTRACT_OF_OUTPUT:
                yield _Change(f"outputs[].{key}", *sides, "field")
            else:
                yield from _changes(f"outputs[].{key}", *sides, strict=key not in TEXT_OF_OUTPUT)


def _renamed(outputs: list[Row]) -> list[Row]:
    return [{RENAMED.get(key, key): value for key, value in output.items()} for output in outputs]


def _changes(path: str, old: Any, new: Any, *, strict: bool) -> Iterator[_Change]:
    """The differences below ``path``. Unless ``strict``, a text that became another text is wording."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in _keys(old, new):
            yield from _member(path, key, old.get(key, ABSENT), new.get(key, ABSENT), strict=strict)
    elif not strict and _is_text(old) and _is_text(new):
        if old != new:
            yield _Change(path, old, new, "wording")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for before, after in zip(old, new, strict=True):
            yield from _changes(f"{path}[]", before, after, strict=strict)
    elif not _equal(old, new):
        yield _Change(path, old, new, "result")


def _member(path: str, key: str, old: Any, new: Any, *, strict: bool) -> Iterator[_Change]:
    """The differences of one key of an object; what the Contract names of an output is strict anywhere."""
    if strict:
        yield from _changes(f"{path}.{key}", old, new, strict=True)
    elif ABSENT in (old, new):
        yield _Change(f"{path}.{key}", old, new, "field")
    elif key not in WORDING:
        yield from _changes(f"{path}.{key}", old, new, strict=key in CONTRACT_OF_OUTPUT)
    elif not _equal(old, new):
        yield _Change(f"{path}.{key}", old, new, "wording")


def _is_text(value: Any) -> bool:
    """A text, or some lines of text; no line at all is not."""
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(line, str) for line in value)
    )


def _equal(old: Any, new: Any) -> bool:
    """Equal as JSON, where ``true`` is not 1. Non-finite numbers are texts in a report, so nan equals nan."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_equal, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_equal(old[key], new[key]) for key in old)
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [*old, *(key for key in new if key not in old)]


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
