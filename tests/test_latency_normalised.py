"""Normalised times: changes of the machine are removed, changes of the model are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.latency.change import FALSE_ALARMS, Side, change
from harness.latency.conditions import normalised_times

CHANGED = {"slower", "faster"}


def on_a_shared_machine(rng: Any, factor: float = 1.0, *, least: float, follows: float = 1.0, count: int = 20) -> Side:
    """Processes on a shared machine: each runs ``least`` to 1.08 times as long as it would alone."""
    disturbance = rng.uniform(least, 1.08, count)
    values = 1000 * factor * disturbance**follows * (1 + rng.exponential(0.004, count))
    return Side(values.tolist(), (9 * disturbance).tolist(), 10)


def logs(side: Side) -> tuple[Any, Any]:
    assert side.calibration_us is not None
    return np.log(side.values_us), np.log(side.calibration_us)


def verdicts(factor: float, trials: int = 200, follows: float = 1.0) -> list[str]:
    """The verdicts of comparisons of undisturbed times with disturbed times."""
    rng = np.random.default_rng(17)
    return [
        change(
            on_a_shared_machine(rng, least=1.0, follows=follows),
            on_a_shared_machine(rng, factor, least=1.03, follows=follows),
        ).verdict
        for _ in range(trials)
    ]


@pytest.mark.parametrize("follows", [0.7, 1.0, 1.3])
def test_a_disturbed_machine_neither_fakes_nor_hides_a_slower_model(follows: float) -> None:
    equals, slower = verdicts(1.0, follows=follows), verdicts(1.05, follows=follows)
    assert sum(verdict in CHANGED for verdict in equals) <= FALSE_ALARMS * len(equals)
    assert equals.count("no change") >= 0.9 * len(equals)
    assert slower.count("slower") >= 0.9 * len(slower)


def test_reported_times_are_normalised() -> None:
    rng = np.random.default_rng(3)
    result = change(on_a_shared_machine(rng, least=1.0), on_a_shared_machine(rng, 1.05, least=1.03))
    assert result.normalised
    assert result.old_us == pytest.approx(1000, rel=0.01)
    assert result.new_us == pytest.approx(1050, rel=0.01)


def test_a_process_that_shared_its_core_is_excluded() -> None:
    rng = np.random.default_rng(5)
    old, new = logs(on_a_shared_machine(rng, least=1.0)), logs(on_a_shared_machine(rng, least=1.0))
    old[0][:3] += np.log(1.3)
    old[1][:3] += np.log(1.4)
    normalised = normalised_times(old, new, 5)
    assert normalised is not None
    assert [len(side) for side in normalised] == [17, 20]


def test_a_call_that_does_not_follow_the_calibration_loop_is_not_normalised() -> None:
    rng = np.random.default_rng(7)
    old, new = (logs(on_a_shared_machine(rng, least=1.0, follows=0.0)) for _ in range(2))
    assert normalised_times(old, new, 5) is None


def test_calibration_times_that_the_other_side_never_had_normalise_nothing() -> None:
    """The frequency was capped between the two sides: neither side shows how the call depends on it."""
    rng = np.random.default_rng(9)
    fast = on_a_shared_machine(rng, least=1.07)
    capped = Side([1.09 * time for time in fast.values_us], [1.06 * time for time in fast.calibration_us or ()], 10)
    assert normalised_times(logs(fast), logs(capped), 5) is None
    assert change(fast, capped).why.startswith("the machine's own speed changed by 6")


def test_too_few_repetitions_near_the_best_time_normalise_nothing() -> None:
    rng = np.random.default_rng(11)
    old, new = logs(on_a_shared_machine(rng, least=1.0)), logs(on_a_shared_machine(rng, least=1.0, count=4))
    assert normalised_times(old, new, 5) is None
    assert normalised_times(old, new, 4) is not None


def test_a_drift_within_a_side_is_noise() -> None:
    """The machine became slower for the call, and its calibration loop does not show it."""
    rng = np.random.default_rng(13)
    old, new = on_a_shared_machine(rng, least=1.0), on_a_shared_machine(rng, least=1.0)
    values = [time * (1.0 if at < 10 else 1.09) for at, time in enumerate(new.values_us)]
    result = change(old, Side(values, new.calibration_us, 10))
    assert result.normalised
    assert result.noise > 1.05
    assert result.verdict == "inconclusive"
