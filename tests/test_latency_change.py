"""The rule for a latency change: its false-alarm rate, and its symmetry between old and new."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.latency.change import FALSE_ALARMS, Side, change, rank_sum
from harness.latency.conditions import MIN_ROUNDS, Samples, counted_rounds, undisturbed_rounds, undisturbed_time
from harness.latency.statistics import largest_split

OPPOSITE = {"slower": "faster", "faster": "slower"}
ORDER = ("faster", "no change", "slower")
VALUES = st.lists(st.floats(900.0, 1100.0), min_size=1, max_size=14)
ENOUGH_VALUES = st.lists(st.floats(900.0, 1100.0), min_size=8, max_size=14)
EFFECTS = st.floats(0.001, 0.3)


def side(values: list[float], calibration: float | list[float] | None = None, rounds: int = 10) -> Side:
    return Side(values, [calibration] * len(values) if isinstance(calibration, float) else calibration, rounds)


def draws(rng: Any, factor: float = 1.0, count: int = 20, spread: float = 0.02, drift: float = 1.0) -> Side:
    """Processes on a machine that drifts: the call and the calibration loop drift together and vary independently."""
    values, calibration = 1000 * factor * rng.lognormal(0, spread, count), 40 * rng.lognormal(0, 0.04, count)
    return Side((drift * values).tolist(), (drift * calibration).tolist(), 10)


# The rank sum


@pytest.mark.parametrize(("old", "new"), [(3, 3), (5, 5), (4, 9), (9, 4), (10, 10), (12, 20), (20, 20)])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.999])
def test_the_rank_sum_is_that_of_mann_and_whitney(old: int, new: int, confidence: float) -> None:
    """Compare the last rank that keeps the confidence with an independently computed distribution."""
    rank = rank_sum(old, new, confidence)
    tail = np.cumsum(frequencies(old, new)) / comb(old + new, old)
    within = np.flatnonzero(tail <= (1 - confidence) / 2)
    assert rank == (within[-1] if len(within) else None)


def frequencies(old: int, new: int) -> list[int]:
    """Count how often each value of the statistic occurs, by recurrence on the largest value."""
    table: dict[tuple[int, int], list[int]] = {}

    def ways(m: int, n: int) -> list[int]:
        if not m or not n:
            return [1]
        if (m, n) not in table:
            counts = [0] * (m * n + 1)
            for value, count in enumerate(ways(m - 1, n)):
                counts[value + n] += count
            for value, count in enumerate(ways(m, n - 1)):
                counts[value] += count
            table[m, n] = counts
        return table[m, n]

    return ways(old, new)


@pytest.mark.parametrize(("old", "new", "critical"), [(5, 5, 0), (8, 8, 7), (10, 10, 16), (4, 4, None)])
def test_the_critical_values_are_those_of_the_table(old: int, new: int, critical: int | None) -> None:
    """Mann and Whitney's critical values for 1% in both tails."""
    assert rank_sum(old, new, 0.99) == critical


def test_the_approximation_continues_the_exact_values() -> None:
    exact, near = rank_sum(20, 20, 0.99), rank_sum(20, 21, 0.99)
    assert exact is not None
    assert near is not None
    assert 0 < near - exact < 12


# The rule


@given(VALUES, VALUES, EFFECTS, st.one_of(st.none(), st.floats(0, 0.2)))
def test_swapping_the_sides_swaps_the_verdict(
    old: list[float], new: list[float], effect: float, noise: float | None
) -> None:
    forward = change(side(old, 40.0), side(new, 41.0), min_effect=effect, noise=noise)
    backward = change(side(new, 41.0), side(old, 40.0), min_effect=effect, noise=noise)
    assert backward.verdict == OPPOSITE.get(forward.verdict, forward.verdict)
    assert backward.ratio == pytest.approx(1 / forward.ratio)
    assert backward.noise == pytest.approx(forward.noise)
    assert backward.why == forward.why
    assert (backward.low is None) == (forward.low is None)
    if forward.low is not None and forward.high is not None and backward.low is not None and backward.high is not None:
        assert backward.low == pytest.approx(1 / forward.high)
        assert backward.high == pytest.approx(1 / forward.low)


@given(VALUES, EFFECTS)
def test_the_same_times_are_never_a_change(values: list[float], effect: float) -> None:
    assert change(side(values, 40.0), side(values, 40.0), min_effect=effect).verdict in {"no change", "inconclusive"}


@given(VALUES, VALUES, st.floats(0.5, 2.0), st.floats(1.0, 2.0), EFFECTS)
def test_a_slower_call_never_has_a_better_verdict(
    old: list[float], new: list[float], first: float, more: float, effect: float
) -> None:
    less = change(side(old, 40.0), side([first * one for one in new], 40.0), min_effect=effect)
    most = change(side(old, 40.0), side([first * more * one for one in new], 40.0), min_effect=effect)
    verdicts = [one.verdict for one in (less, most)]
    assert most.ratio >= less.ratio * (1 - 1e-9)
    if "inconclusive" not in verdicts:
        assert ORDER.index(verdicts[0]) <= ORDER.index(verdicts[1])
    if less.verdict == "slower":
        assert most.verdict == "slower"


@given(VALUES, VALUES, st.floats(0.001, 1000.0))
def test_the_unit_does_not_matter(old: list[float], new: list[float], unit: float) -> None:
    plain = change(side(old), side(new))
    scaled = change(side([unit * one for one in old]), side([unit * one for one in new]))
    assert scaled.ratio == pytest.approx(plain.ratio)
    assert scaled.noise == pytest.approx(plain.noise, rel=1e-6)


@given(ENOUGH_VALUES, ENOUGH_VALUES, EFFECTS)
def test_a_counted_change_is_significant_above_the_noise_and_large_enough(
    old: list[float], new: list[float], effect: float
) -> None:
    result = change(side(old), side([1.4 * one for one in new]), min_effect=effect)
    assume(result.verdict == "slower")
    assert result.low is not None
    assert result.low > 1
    assert result.ratio > max(1 + effect, result.noise)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_more_rounds_are_proposed_only_where_they_would_help(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = draws(rng, count=8), draws(rng, 1.04, count=8)
    result = change(old, new)
    if result.more_rounds is not None:
        assert result.verdict == "inconclusive"
        assert result.more_rounds % 10 == 0
        assert result.more_rounds > 0
    else:
        assert result.verdict != "inconclusive" or result.why


def test_too_few_processes_are_reported_with_the_missing_number() -> None:
    result = change(side([100.0] * 3), side([200.0] * 3))
    assert (result.verdict, result.low) == ("inconclusive", None)
    assert result.more_rounds == 20, "two more processes of ten rounds"


def test_a_change_within_the_noise_is_not_one() -> None:
    wild = [900.0, 950.0, 1000.0, 1050.0, 1100.0] * 4
    result = change(side(wild), side([1.06 * one for one in wild]))
    assert result.noise > 1.06
    assert (result.verdict, result.more_rounds) == ("inconclusive", None)
    assert "noise" in result.why
    assert change(side(TIMES), side([1.06 * one for one in TIMES])).verdict == "slower"


TIMES = [995.0, 998.0, 1000.0, 1002.0, 1005.0] * 4
CALIBRATION = [one / 25 for one in TIMES]


def test_a_slower_machine_is_not_a_slower_model() -> None:
    slowed, calibration = [1.1 * one for one in TIMES], [1.1 * one for one in CALIBRATION]
    result = change(side(TIMES, CALIBRATION), side(slowed, calibration))
    assert (result.verdict, result.more_rounds) == ("inconclusive", None)
    assert result.why == "the machine's own speed changed by 10.0 %"
    assert change(side(TIMES), side(slowed)).verdict == "slower", "without a calibration loop it cannot be told apart"


def test_a_slower_machine_does_not_hide_a_model_that_slowed_down_more() -> None:
    slowed, calibration = [1.2 * one for one in TIMES], [1.05 * one for one in CALIBRATION]
    assert change(side(TIMES, CALIBRATION), side(slowed, calibration)).verdict == "slower"
    assert change(side(slowed, calibration), side(TIMES, CALIBRATION)).verdict == "faster"


def test_a_slower_model_on_a_faster_machine_is_slower() -> None:
    slowed, calibration = [1.1 * one for one in TIMES], [one / 1.2 for one in CALIBRATION]
    assert change(side(TIMES, CALIBRATION), side(slowed, calibration)).verdict == "slower"


def test_a_calibration_change_alone_is_inconclusive() -> None:
    """The call may have become slower by as much as the machine became faster."""
    result = change(side(TIMES, CALIBRATION), side(TIMES, [0.9 * one for one in CALIBRATION]))
    assert (result.verdict, result.more_rounds) == ("inconclusive", None)
    assert result.why == "the machine's own speed changed by 11.1 %"


def test_calibration_times_that_only_vary_change_no_verdict() -> None:
    rng = np.random.default_rng(5)
    calibration = [(40 * rng.lognormal(0, 0.05, 20)).tolist() for _ in range(2)]
    assert change(side(TIMES, calibration[0]), side(TIMES, calibration[1])).verdict == "no change"
    assert change(side(TIMES, calibration[0]), side([1.05 * one for one in TIMES], calibration[1])).verdict == "slower"


def test_many_comparisons_share_the_false_alarms() -> None:
    rng = np.random.default_rng(3)
    old, new = draws(rng, count=7, spread=0.004), draws(rng, 1.05, count=7, spread=0.004)
    assert change(old, new).verdict == "slower"
    assert change(old, new, comparisons=100).verdict == "inconclusive"


def test_equal_calls_keep_the_rate_of_false_alarms_on_a_drifting_machine() -> None:
    rng = np.random.default_rng(7)
    trials = 600
    alarms = sum(
        change(draws(rng), draws(rng, drift=float(rng.lognormal(0, 0.1)))).verdict in OPPOSITE for _ in range(trials)
    )
    assert alarms <= 2 * FALSE_ALARMS * trials
    naive = sum(
        change(
            replace(draws(rng), calibration_us=None),
            replace(draws(rng, drift=float(rng.lognormal(0, 0.1))), calibration_us=None),
        ).verdict
        in OPPOSITE
        for _ in range(trials)
    )
    assert naive > 10 * FALSE_ALARMS * trials, "the drift is there: without the calibration loop it counts as a change"


def test_a_slowdown_of_five_percent_is_detected() -> None:
    rng = np.random.default_rng(11)
    trials = 200
    slower = sum(change(draws(rng), draws(rng, 1.05)).verdict == "slower" for _ in range(trials))
    assert slower >= 0.85 * trials


def test_the_largest_split_is_the_largest() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 0.1, 10)
    worst = largest_split(values)
    for _ in range(200):
        mixed = rng.permutation(values)
        assert np.median(mixed[:5]) / np.median(mixed[5:]) - 1 <= worst + 1e-12
    assert largest_split([1.0, 2.0, 3.0]) == 2.0


# Undisturbed samples


def test_undisturbed_is_near_the_best_calibration_time_and_not_interrupted() -> None:
    samples = Samples([1.0] * 6, {1}, [40.0, 40.0, 55.0, 44.0, 40.0, 40.0])
    assert undisturbed_rounds(samples, 40.0) == (0, 3, 4, 5)
    assert undisturbed_rounds(samples, float("inf")) == (0, 2, 3, 4, 5)
    assert undisturbed_rounds(Samples([1.0, 2.0]), 40.0) == (0, 1)


def test_the_undisturbed_time_is_the_five_percent_quantile() -> None:
    assert undisturbed_time([float(one) for one in range(1, 101)]) == pytest.approx(5.95)
    assert undisturbed_time([]) == float("inf")


def test_disturbed_processes_do_not_count_unless_most_are_disturbed() -> None:
    quiet = Samples([1.0] * 9, (), [40.0] * 9)
    loud = Samples([9.0] * 9, (), [40.0] * (MIN_ROUNDS - 1) + [80.0] * (10 - MIN_ROUNDS))
    assert [len(rounds) for rounds in counted_rounds([quiet, quiet, loud])] == [9, 9, 0]
    assert counted_rounds([quiet, loud, loud]) == [(), (), ()]
