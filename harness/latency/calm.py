"""Which samples were taken while the machine was calm: nobody else on the CPU, and the pace near its best."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# A pace up to so many times its best is calm. Between a core alone and one shared with a neighbour lie 1.3 and more.
_CALM = 1.2
# The best pace is the one that so many are quicker than: the very quickest is luck.
_QUICKEST = 0.05
# A process with fewer calm samples says nothing.
FEW = 3
# One process alone needs so many calm samples; of several, more than half must have had a calm time.
ENOUGH = 6


@dataclass(frozen=True, slots=True)
class Samples:
    """One call's samples in one process, in microseconds a call, one for each round.

    ``interrupted`` are the rounds in which another process was given the CPU. ``pace_us`` is the slower one of the
    paces before and after each sample, ``stream_us`` that of memory in its round; both are empty where not measured.
    """

    samples_us: Sequence[float]
    interrupted: Collection[int] = frozenset()
    pace_us: Sequence[float] = ()
    stream_us: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Best:
    """The machine's paces at its best; infinite where not measured, so that all is calm."""

    pace_us: float = float("inf")
    stream_us: float = float("inf")

    def calmest(self, other: Best) -> Best:
        """The better of both, each for itself."""
        return Best(min(self.pace_us, other.pace_us), min(self.stream_us, other.stream_us))


def best(processes: Iterable[Samples]) -> Best:
    """The best paces over all samples."""
    processes = list(processes)
    return Best(
        _quickest([pace for one in processes for pace in one.pace_us]),
        _quickest([pace for one in processes for pace in one.stream_us]),
    )


def calm(samples: Samples, at_best: Best) -> tuple[int, ...]:
    """The rounds in which the machine was calm, by its paces at its best."""
    return tuple(
        at
        for at in range(len(samples.samples_us))
        if at not in samples.interrupted
        and (not samples.pace_us or samples.pace_us[at] <= _CALM * at_best.pace_us)
        and (not samples.stream_us or samples.stream_us[at] <= _CALM * at_best.stream_us)
    )


def calm_rounds(processes: Sequence[Samples], at_best: Best) -> list[tuple[int, ...]]:
    """The calm rounds of each process; none of a process that has only few."""
    least = ENOUGH if len(processes) == 1 else FEW
    found = [calm(one, at_best) for one in processes]
    return [rounds if len(rounds) >= least else () for rounds in found]


def counting(processes: Sequence[Samples]) -> list[tuple[int, ...]]:
    """The rounds of each process that count for a figure: the calm ones, by the machine's best in these processes.

    None of any process where that would leave out half of them: then there is nothing better than all samples.
    """
    found = calm_rounds(processes, best(processes))
    return found if 2 * sum(map(bool, found)) > len(found) else [()] * len(found)


def _quickest(paces: Sequence[float]) -> float:
    return float(np.quantile(paces, _QUICKEST)) if paces else float("inf")
