"""Figures brought to the machine's best pace: what the machine did is taken off, what the model did is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.latency.change import FALSE_ALARMS, Side, change
from harness.latency.conditions import at_best_pace

WORDS = {"slower", "faster"}


def shared(rng: Any, factor: float = 1.0, *, least: float, follows: float = 1.0, count: int = 20) -> Side:
    """Processes on a machine that others use too: each finds it slower than it can be, by ``least`` to 8% more."""
    disturbed = rng.uniform(least, 1.08, count)
    values = 1000 * factor * disturbed**follows * (1 + rng.exponential(0.004, count))
    return Side(values.tolist(), (9 * disturbed).tolist(), 10)


def logs(side: Side) -> tuple[Any, Any]:
    assert side.pace_us is not None
    return np.log(side.values_us), np.log(side.pace_us)


def verdicts(factor: float, trials: int = 200, follows: float = 1.0) -> list[str]:
    """Of comparisons of a quiet time with a disturbed one."""
    rng = np.random.default_rng(17)
    return [
        change(shared(rng, least=1.0, follows=follows), shared(rng, factor, least=1.03, follows=follows)).verdict
        for _ in range(trials)
    ]


@pytest.mark.parametrize("follows", [0.7, 1.0, 1.3])
def test_a_disturbed_time_is_no_slower_model_and_hides_none(follows: float) -> None:
    equals, slower = verdicts(1.0, follows=follows), verdicts(1.05, follows=follows)
    assert sum(verdict in WORDS for verdict in equals) <= FALSE_ALARMS * len(equals)
    assert equals.count("no change") >= 0.9 * len(equals)
    assert slower.count("slower") >= 0.9 * len(slower)


def test_figures_are_told_at_the_best_pace() -> None:
    rng = np.random.default_rng(3)
    found = change(shared(rng, least=1.0), shared(rng, 1.05, least=1.03))
    assert found.at_best_pace
    assert found.old_us == pytest.approx(1000, rel=0.01)
    assert found.new_us == pytest.approx(1050, rel=0.01)


def test_a_process_that_shared_its_core_is_left_out() -> None:
    rng = np.random.default_rng(5)
    one, other = logs(shared(rng, least=1.0)), logs(shared(rng, least=1.0))
    one[0][:3] += np.log(1.3)
    one[1][:3] += np.log(1.4)
    brought = at_best_pace(one, other, 5)
    assert brought is not None
    assert [len(side) for side in brought] == [17, 20]


def test_a_call_that_does_not_follow_the_pace_is_not_brought_to_it() -> None:
    rng = np.random.default_rng(7)
    assert at_best_pace(logs(shared(rng, least=1.0, follows=0.0)), logs(shared(rng, least=1.0, follows=0.0)), 5) is None


def test_a_pace_that_no_repetition_of_the_other_side_had_is_no_unit() -> None:
    """A frequency that was capped meanwhile: nothing within a side tells what that does to the call."""
    rng = np.random.default_rng(9)
    quick = shared(rng, least=1.07)
    capped = Side([1.09 * one for one in quick.values_us], [1.06 * one for one in quick.pace_us or ()], 10)
    assert at_best_pace(logs(quick), logs(capped), 5) is None
    assert change(quick, capped).why.startswith("the machine's own pace changed by 6")


def test_too_few_near_the_best_pace_tell_nothing() -> None:
    rng = np.random.default_rng(11)
    one, other = logs(shared(rng, least=1.0)), logs(shared(rng, least=1.0, count=4))
    assert at_best_pace(one, other, 5) is None
    assert at_best_pace(one, other, 4) is not None


def test_a_drift_within_a_side_is_noise() -> None:
    """The machine became slower for the call while its pace tells nothing of it."""
    rng = np.random.default_rng(13)
    old, new = shared(rng, least=1.0), shared(rng, least=1.0)
    values = [one * (1.0 if at < 10 else 1.09) for at, one in enumerate(new.values_us)]
    found = change(old, Side(values, new.pace_us, 10))
    assert found.at_best_pace
    assert found.noise > 1.05
    assert found.verdict == "inconclusive"
