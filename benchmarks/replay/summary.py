"""The outcome of a replay as a short text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from benchmarks.replay.argued import Argued
from benchmarks.replay.compare import RUN, Difference, Kind
from benchmarks.replay.run import Side

EXAMPLE = 160
FIRST = ("exit_code", "report", "row", "status", "stage", "symptom", "blame")
"""The fields that are shown first."""


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """Both sides of a part."""

    name: str
    about: str
    old: Side
    new: Side


@dataclass(frozen=True, slots=True)
class Outcome:
    """The whole replay. ``unused`` are entries of the argued differences that match nothing."""

    old: str
    new: str
    imported: Mapping[str, str]
    parts: Sequence[PartOutcome]
    differences: Sequence[Difference]
    argued: Sequence[tuple[Difference, Argued]]
    unused: Sequence[Argued]
    left_out: Sequence[str]

    def of(self, kind: Kind) -> list[Difference]:
        """Return the differences of one kind that are not argued."""
        return [difference for difference in self.differences if difference.kind == kind]

    @property
    def exit_code(self) -> int:
        """0 if both sides are equal except for wording and argued differences, else 1."""
        return 1 if self.of("result") or self.unused else 0


def text(outcome: Outcome, most: int) -> str:
    """Return the text for a terminal: counts, then up to ``most`` groups of differences of each kind, with examples."""
    results = outcome.of("result")
    lines = [f"old: {outcome.old}", f"new: {outcome.new}", "", _table(outcome), ""]
    lines += _groups("Results that differ", results, most, values=True)
    lines += [f"Argued: {difference.group}, {entry.why}" for difference, entry in _firsts(outcome.argued)]
    lines += [f"Matches no difference: {entry.where}; remove it" for entry in outcome.unused]
    lines += _groups("Wording that differs (does not fail the replay)", outcome.of("wording"), most, values=False)
    other = "Fields of one side only, digests and positions (do not fail the replay)"
    lines += _groups(other, outcome.of("field"), most, values=False)
    lines += [f"Not replayed: {line}" for line in outcome.left_out]
    rows = sum(len(part.old.rows or {}) for part in outcome.parts)
    if results:
        runs = len({each.part for each in results if each.target == RUN})
        and_runs = f", and {runs} run{'s' * (runs != 1)}" if runs else ""
        lines.append(f"Different: {len(_rows(results)):,} of {rows:,} rows{and_runs}.")
    elif outcome.unused:
        lines.append(f"Equal, but {len(outcome.unused)} argued differences match nothing.")
    else:
        argued = f" and {len(outcome.argued):,} argued differences" if outcome.argued else ""
        lines.append(f"Equal but for wording{argued}: {rows:,} rows.")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return everything: each part's runs, and each difference in full."""
    return {
        "exit_code": outcome.exit_code,
        "old": outcome.old,
        "new": outcome.new,
        "imported": dict(outcome.imported),
        "parts": [
            {
                "name": part.name,
                "about": part.about,
                **{
                    name: {
                        "exit_code": side.exit_code,
                        "rows": None if side.rows is None else len(side.rows),
                        "seconds": side.seconds,
                    }
                    for name, side in (("old", part.old), ("new", part.new))
                },
            }
            for part in outcome.parts
        ],
        "differences": [asdict(difference) for difference in outcome.differences],
        "argued": [asdict(difference) | {"why": entry.why} for difference, entry in outcome.argued],
        "unused": [entry.where for entry in outcome.unused],
        "not_replayed": list(outcome.left_out),
    }


def _table(outcome: Outcome) -> str:
    rows = []
    for part in outcome.parts:
        own = {kind: [each for each in outcome.of(kind) if each.part == part.name] for kind in ("result", "wording")}
        argued = {(each.case, each.target) for each, _ in outcome.argued if each.part == part.name}
        rows.append(
            [
                part.name,
                *("none" if side.rows is None else len(side.rows) for side in (part.old, part.new)),
                *(side.exit_code for side in (part.old, part.new)),
                *(f"{side.seconds:.0f}" for side in (part.old, part.new)),
                len(_rows(own["result"])),
                len(argued),
                len(_rows(own["wording"])),
            ]
        )
    heads = ["part", "rows old", "new", "exit code old", "new", "seconds old", "new", "differ", "argued", "wording"]
    return tabulate(rows, headers=heads, intfmt=",")


def _groups(title: str, differences: Sequence[Difference], most: int, *, values: bool) -> list[str]:
    """One line per group: the most important fields first, then the largest groups."""
    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.group if values else difference.field, []).append(difference)
    if not groups:
        return []
    lines = [f"{title}:"]
    ordered = sorted(groups.items(), key=lambda item: (_rank(item[1][0].field), -len(item[1])))
    for name, members in ordered[:most]:
        lines.append(f"  {name}: {_members(members, values=values and '->' not in name)}")
    if len(ordered) > most:
        lines.append(f"  ... and {len(ordered) - most:,} further groups; all of them are in the JSON")
    return [*lines, ""]


def _members(members: Sequence[Difference], *, values: bool) -> str:
    """How many rows, and the first of them."""
    first, count = members[0], len(_rows(members))
    if first.target == RUN:
        return f"the run{'s' * (len(members) != 1)} of {', '.join(each.part for each in members)}"
    example = f" ({_short(first.old)} -> {_short(first.new)})" if values else ""
    return f"{count:,} row{'s' * (count != 1)}, e.g. {first.case} on {first.target} in {first.part}{example}"


def _rank(field: str) -> int:
    return FIRST.index(field) if field in FIRST else len(FIRST)


def _firsts(argued: Sequence[tuple[Difference, Argued]]) -> Iterable[tuple[Difference, Argued]]:
    """One difference for each entry."""
    return {entry.where: (difference, entry) for difference, entry in reversed(argued)}.values()


def _rows(differences: Iterable[Difference]) -> set[tuple[str, str, str]]:
    return {(each.part, each.case, each.target) for each in differences if each.target != RUN}


def _short(value: Any) -> str:
    whole = " ".join(str(value).split())
    return whole if len(whole) <= EXAMPLE else whole[: EXAMPLE - 3] + "..."
