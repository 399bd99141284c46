"""What the audit found: twins before cases, and the gaps that they leave.

The audit for people: how many twins are noticed by layer, where the gaps are, and which twins nothing could tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate


@dataclass(frozen=True, slots=True)
class Sighting:
    """One twin before one case. ``excuse`` says why no input could tell, where none could."""

    case: str
    layer: str
    twin: str
    noticed: bool
    excuse: str | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What all cases made of all their twins; ``left_out`` says by case why it was shown none."""

    sightings: tuple[Sighting, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def fair(self) -> tuple[Sighting, ...]:
        """Those that some input could have told apart."""
        return tuple(one for one in self.sightings if one.excuse is None)

    @property
    def blind_cases(self) -> tuple[str, ...]:
        """Cases that notice none of their twins, although some could be told apart."""
        noticing = {one.case for one in self.fair if one.noticed}
        return tuple(dict.fromkeys(one.case for one in self.fair if one.case not in noticing))

    @property
    def unnoticed_twins(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """By layer and twin the cases that it was shown to, where none of them notices it."""
        noticed = {(one.layer, one.twin) for one in self.fair if one.noticed}
        missed = [one for one in self.fair if (one.layer, one.twin) not in noticed]
        return {
            name: tuple(dict.fromkeys(one.case for one in missed if (one.layer, one.twin) == name))
            for name in dict.fromkeys((one.layer, one.twin) for one in missed)
        }

    @property
    def passed(self) -> bool:
        """True where something was looked at, every case notices some twin and every twin is noticed by some case."""
        return bool(self.fair) and not self.blind_cases and not self.unnoticed_twins

    def by_layer(self) -> Iterator[tuple[str, tuple[Sighting, ...]]]:
        """Every layer with what was shown in its place, in the order of the specs."""
        for layer in dict.fromkeys(one.layer for one in self.sightings):
            yield layer, tuple(one for one in self.sightings if one.layer == layer)


MOST = 3
"""How many cases are named where a twin is not noticed."""


def text(audit: Audit) -> str:
    """All of it, the verdict last."""
    return "\n".join([_by_layer(audit), *_excused(audit), *_left_out(audit), *_gaps(audit), "", verdict(audit)])


def verdict(audit: Audit) -> str:
    """One line."""
    if not audit.fair:
        return "nothing was audited: there is no twin that any of these cases could tell from its layer"
    twins, cases = {(one.layer, one.twin) for one in audit.fair}, {one.case for one in audit.fair}
    if audit.passed:
        return f"no gap: each of {len(twins)} wrong layers is noticed, and each of {len(cases)} cases notices one"
    missed, blind = len(audit.unnoticed_twins), len(audit.blind_cases)
    return f"{missed} of {len(twins)} wrong layers are noticed by no case; {blind} of {len(cases)} cases notice none"


def _by_layer(audit: Audit) -> str:
    rows = []
    for layer, seen in audit.by_layer():
        fair = [one for one in seen if one.excuse is None]
        missed = [twin for name, twin in audit.unnoticed_twins if name == layer]
        rows.append(
            (
                layer,
                len({one.case for one in seen}),
                len({one.twin for one in fair}) - len(missed),
                len({one.twin for one in fair}),
                sum(one.noticed for one in fair),
                len(fair),
                len(seen) - len(fair),
            )
        )
    headers = ("layer", "cases", "twins noticed", "of", "sightings noticed", "of", "excused")
    return tabulate(rows, headers=headers)


def _excused(audit: Audit) -> Iterator[str]:
    reasons = Counter((one.layer, one.excuse) for one in audit.sightings if one.excuse is not None)
    if reasons:
        rows = [(layer, count, reason) for (layer, reason), count in reasons.items()]
        yield "\nExcused, since no input could tell:\n" + tabulate(rows, headers=("layer", "times", "why"))


def _left_out(audit: Audit) -> Iterator[str]:
    reasons = Counter(audit.left_out.values())
    yield from (f"\n{count} cases were shown no twin: {why}" for why, count in reasons.items())


def _gaps(audit: Audit) -> Iterator[str]:
    if audit.unnoticed_twins:
        rows = [(layer, twin, _named(cases)) for (layer, twin), cases in audit.unnoticed_twins.items()]
        yield "\nWrong layers that no case notices:\n" + tabulate(rows, headers=("layer", "twin", "shown to"))
    if audit.blind_cases:
        blind = [(case, _named(_twins(audit, case))) for case in audit.blind_cases]
        yield "\nCases that notice no wrong layer:\n" + tabulate(blind, headers=("case", "not noticed"))


def _twins(audit: Audit, case: str) -> list[str]:
    return [one.twin for one in audit.fair if one.case == case]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {more} more" if more > 0 else "")
