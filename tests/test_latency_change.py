"""The rule for a latency change: its false-alarm rate, and its symmetry between old and new."""

from __future__ import annotations

from dataclasses import replace
from math import comb, log1p
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


# The bounds of the rule: powers of two, whose logarithms are exact multiples of each other


def exactly(factor: float, count: int = 8) -> Side:
    """Times whose logarithms are all that of ``factor``, to be compared with ``exactly(1.0)``."""
    return Side([factor] * count)


@pytest.mark.parametrize("effect", [0.25, 0.5, 1.0])
def test_a_change_of_just_the_minimum_effect_is_neither_a_change_nor_none(effect: float) -> None:
    assert np.log(1 + effect) == log1p(effect)
    for old, new in ((1.0, 1 + effect), (1 + effect, 1.0)):
        result = change(exactly(old), exactly(new), min_effect=effect, noise=0.0)
        assert result.verdict == "inconclusive"
        assert (result.why, result.more_rounds) == ("the interval is too wide", 1)
    assert change(exactly(1.0), exactly(1 + effect), min_effect=0.9 * effect, noise=0.0).verdict == "slower"
    assert change(exactly(1 + effect), exactly(1.0), min_effect=1.1 * effect, noise=0.0).verdict == "no change"


@pytest.mark.parametrize("noise", [0.25, 0.5])
def test_a_change_of_just_the_noise_is_not_above_it(noise: float) -> None:
    result = change(exactly(1.0), exactly(1 + noise), min_effect=0.1, noise=noise)
    assert (result.verdict, result.more_rounds) == ("inconclusive", None)
    assert result.why == f"the machine's own noise is {100 * noise:.1f} %"
    assert change(exactly(1.0), exactly(1 + noise), min_effect=0.1, noise=0.9 * noise).verdict == "slower"


def test_an_interval_that_touches_one_is_not_significant() -> None:
    """With five values on each side the interval ends at the smallest and the largest difference."""
    fast, slow = Side([900.0] * 4 + [1000.0]), Side([1100.0] * 4 + [1000.0])
    for old, new, bound in ((fast, slow, "low"), (slow, fast, "high")):
        result = change(old, new, noise=0.0)
        assert getattr(result, bound) == 1.0
        assert result.verdict == "inconclusive"
    assert change(fast, Side([1100.0] * 4 + [1001.0]), noise=0.0).verdict == "slower"


def test_a_machine_that_changed_by_just_half_as_much_may_be_the_cause() -> None:
    def on_machine(speed: float) -> str:
        old, new = [1.0] * 8, [4.0] * 8
        return change(Side(old, [1.0] * 8), Side(new, [speed] * 8), noise=0.0).why

    assert on_machine(2.0) == "the machine's own speed changed by 100.0 %"
    assert on_machine(1.9) == ""


def test_a_change_of_just_the_minimum_effect_is_none_that_a_machine_could_cause() -> None:
    """The machine slowed down by more than half of it, which would count for a larger change."""
    old, calibration = Side([1.0] * 8, [1.0] * 8), [1.16] * 8
    assert change(old, Side([1.25] * 8, calibration), min_effect=0.25, noise=0.0).why == "the interval is too wide"
    larger = change(old, Side([1.26] * 8, calibration), min_effect=0.25, noise=0.0)
    assert larger.why == "the machine's own speed changed by 16.0 %"


@pytest.mark.parametrize(("lowest", "more"), [(2.0**-9, 495), (2.0**-10, None)])
def test_rounds_are_proposed_up_to_a_hundred_times_as_many(lowest: float, more: int | None) -> None:
    """The interval reaches ten times as far as the estimate, so it needs a hundred times as many values."""
    result = change(Side([1.0] * 5), Side([lowest, 2.0, 2.0, 2.0, 2.0]), noise=0.0)
    assert result.verdict == "inconclusive"
    assert result.more_rounds == more
    assert result.why == ("the interval is too wide" if more else "the times vary too much")


def test_a_single_round_counts_as_one() -> None:
    assert change(Side([100.0] * 3), Side([200.0] * 3)).more_rounds == 2
    assert change(Side([100.0] * 3, rounds=4), Side([200.0] * 3)).more_rounds == 8, "the larger number of rounds"


def test_the_calibration_of_one_side_alone_says_nothing() -> None:
    slowed = [1.1 * one for one in TIMES]
    plain = change(side(TIMES), side(slowed))
    assert change(side(TIMES, CALIBRATION), side(slowed)) == plain
    assert change(side(TIMES), side(slowed, CALIBRATION)) == plain


def test_the_result_has_the_medians_and_the_interval_of_the_differences() -> None:
    old, new = [100.0, 101.0, 102.0, 103.0, 104.0], [210.0, 220.0, 230.0, 240.0, 250.0]
    result = change(Side(old), Side(new))
    assert result.old_us == pytest.approx(102.0)
    assert result.new_us == pytest.approx(230.0)
    assert result.low == pytest.approx(210 / 104)
    assert result.high == pytest.approx(250 / 100)
    assert not result.normalised


def test_the_approximation_ends_where_no_rank_is_left() -> None:
    """Two values against many: the lowest rank of all, and then none."""
    assert rank_sum(2, 201, 0.9845) == 0
    assert rank_sum(2, 201, 0.99) is None


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
