"""What the audit found: twins before cases, and the gaps that they leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


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
