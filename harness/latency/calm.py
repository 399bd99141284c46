"""Which samples were taken while the machine was calm: nobody else on the CPU, and the pace near its best."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

# A pace up to so many times its best is calm. Between a core alone and one shared with a neighbour lie 1.3 and more.
_CALM = 1.2
# So many samples are quicker than what counts as the quickest: the very quickest is luck.
_QUICKEST = 0.05
# A process with fewer calm samples says nothing.
FEW = 3
# One process alone needs so many calm samples; of several, more than half must have had a calm time.
ENOUGH = 6


@dataclass(frozen=True, slots=True)
class Samples:
    """One call's samples in one process, in microseconds a call, one for each round.

    ``interrupted`` are the rounds in which another process was given the CPU. ``pace_us`` is the slower one of the
    paces before and after each sample; empty where not measured.
    """

    samples_us: Sequence[float]
    interrupted: Collection[int] = frozenset()
    pace_us: Sequence[float] = ()


def quickest(samples_us: Sequence[float]) -> float:
    """What a call takes while nothing disturbs it: other work on the machine only ever adds.

    One in twenty samples is quicker. Infinite where there are none.
    """
    return float(np.quantile(samples_us, _QUICKEST)) if len(samples_us) else float("inf")


def calm(samples: Samples, best_pace_us: float) -> tuple[int, ...]:
    """The rounds in which the machine was calm, by its pace at its best."""
    return tuple(
        at
        for at in range(len(samples.samples_us))
        if at not in samples.interrupted and (not samples.pace_us or samples.pace_us[at] <= _CALM * best_pace_us)
    )


def counting(processes: Sequence[Samples]) -> list[tuple[int, ...]]:
    """The rounds of each process that count for a figure: the calm ones, by the machine's best in these processes.

    None of a process that has only few, and none of any where that would leave out half of them: then there is nothing
    better than all samples.
    """
    best = quickest([pace for one in processes for pace in one.pace_us])
    least = ENOUGH if len(processes) == 1 else FEW
    found = [rounds if len(rounds) >= least else () for rounds in (calm(one, best) for one in processes)]
    return found if 2 * sum(map(bool, found)) > len(found) else [()] * len(found)
