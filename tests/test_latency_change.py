"""The rule by which a change of latency counts: it keeps its word about false alarms, and is fair to both sides."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.latency.change import FALSE_ALARMS, Side, change, rank_sum
from harness.latency.conditions import FEW, Samples, calm, counting, quickest
from harness.latency.statistics import largest_split

WORDS = {"slower": "faster", "faster": "slower"}
ORDER = ("faster", "no change", "slower")
VALUES = st.lists(st.floats(900.0, 1100.0), min_size=1, max_size=14)
ENOUGH = st.lists(st.floats(900.0, 1100.0), min_size=8, max_size=14)
EFFECTS = st.floats(0.001, 0.3)


def side(values: list[float], pace: float | list[float] | None = None, rounds: int = 10) -> Side:
    paces = [pace] * len(values) if isinstance(pace, float) else pace
    return Side(values, paces, rounds)


def draws(rng: Any, factor: float = 1.0, count: int = 20, spread: float = 0.02, drift: float = 1.0) -> Side:
    """Processes on a machine that drifts: the call and the pace drift together, and each varies by itself."""
    values, pace = 1000 * factor * rng.lognormal(0, spread, count), 40 * rng.lognormal(0, 0.04, count)
    return Side((drift * values).tolist(), (drift * pace).tolist(), 10)


# The rank sum


@pytest.mark.parametrize(("old", "new"), [(3, 3), (5, 5), (4, 9), (9, 4), (10, 10), (12, 20), (20, 20)])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 0.999])
def test_the_rank_sum_is_mann_and_whitneys(old: int, new: int, confidence: float) -> None:
    """The last rank that keeps the confidence, against the distribution counted out in another way."""
    place = rank_sum(old, new, confidence)
    tail = np.cumsum(counts(old, new)) / comb(old + new, old)
    keeps = np.flatnonzero(tail <= (1 - confidence) / 2)
    assert place == (keeps[-1] if len(keeps) else None)


def counts(old: int, new: int) -> list[int]:
    """How often each value of the statistic comes up, by the recurrence on the largest value."""
    table: dict[tuple[int, int], list[int]] = {}

    def ways(m: int, n: int) -> list[int]:
        if not m or not n:
            return [1]
        if (m, n) not in table:
            found = [0] * (m * n + 1)
            for at, count in enumerate(ways(m - 1, n)):
                found[at + n] += count
            for at, count in enumerate(ways(m, n - 1)):
                found[at] += count
            table[m, n] = found
        return table[m, n]

    return ways(old, new)


@pytest.mark.parametrize(("old", "new", "critical"), [(5, 5, 0), (8, 8, 7), (10, 10, 16), (4, 4, None)])
def test_the_critical_values_are_the_tables(old: int, new: int, critical: int | None) -> None:
    """Mann and Whitney's critical values for 1% in both tails."""
    assert rank_sum(old, new, 0.99) == critical


def test_the_approximation_goes_on_where_counting_ends() -> None:
    exact, near = rank_sum(20, 20, 0.99), rank_sum(20, 21, 0.99)
    assert exact is not None
    assert near is not None
    assert 0 < near - exact < 12


# The rule


@given(VALUES, VALUES, EFFECTS, st.one_of(st.none(), st.floats(0, 0.2)))
def test_it_is_fair_to_both_sides(old: list[float], new: list[float], effect: float, noise: float | None) -> None:
    there = change(side(old, 40.0), side(new, 41.0), min_effect=effect, noise=noise)
    back = change(side(new, 41.0), side(old, 40.0), min_effect=effect, noise=noise)
    assert back.verdict == WORDS.get(there.verdict, there.verdict)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert back.noise == pytest.approx(there.noise)
    assert back.why == there.why
    assert (back.low is None) == (there.low is None)
    if there.low is not None and there.high is not None and back.low is not None and back.high is not None:
        assert back.low == pytest.approx(1 / there.high)
        assert back.high == pytest.approx(1 / there.low)


@given(VALUES, EFFECTS)
def test_the_same_figures_are_never_a_change(values: list[float], effect: float) -> None:
    assert change(side(values, 40.0), side(values, 40.0), min_effect=effect).verdict in {"no change", "inconclusive"}


@given(VALUES, VALUES, st.floats(0.5, 2.0), st.floats(1.0, 2.0), EFFECTS)
def test_the_slower_it_is_the_slower_it_is_said_to_be(
    old: list[float], new: list[float], first: float, more: float, effect: float
) -> None:
    less = change(side(old, 40.0), side([first * one for one in new], 40.0), min_effect=effect)
    most = change(side(old, 40.0), side([first * more * one for one in new], 40.0), min_effect=effect)
    said = [one.verdict for one in (less, most)]
    assert most.ratio >= less.ratio * (1 - 1e-9)
    if "inconclusive" not in said:
        assert ORDER.index(said[0]) <= ORDER.index(said[1])
    if less.verdict == "slower":
        assert most.verdict == "slower"


@given(VALUES, VALUES, st.floats(0.001, 1000.0))
def test_the_unit_does_not_matter(old: list[float], new: list[float], unit: float) -> None:
    plain = change(side(old), side(new))
    scaled = change(side([unit * one for one in old]), side([unit * one for one in new]))
    assert scaled.ratio == pytest.approx(plain.ratio)
    assert scaled.noise == pytest.approx(plain.noise, rel=1e-6)


@given(ENOUGH, ENOUGH, EFFECTS)
def test_what_counts_is_significant_above_the_noise_and_large_enough(
    old: list[float], new: list[float], effect: float
) -> None:
    found = change(side(old), side([1.4 * one for one in new]), min_effect=effect)
    assume(found.verdict == "slower")
    assert found.low is not None
    assert found.low > 1
    assert found.ratio > max(1 + effect, found.noise)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_more_rounds_are_only_promised_where_they_would_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = draws(rng, count=8), draws(rng, 1.04, count=8)
    found = change(old, new)
    if found.more_rounds is not None:
        assert found.verdict == "inconclusive"
        assert found.more_rounds % 10 == 0
        assert found.more_rounds > 0
    else:
        assert found.verdict != "inconclusive" or found.why


def test_too_few_processes_are_told_with_how_many_more_it_takes() -> None:
    found = change(side([100.0] * 3), side([200.0] * 3))
    assert (found.verdict, found.low) == ("inconclusive", None)
    assert found.more_rounds == 20, "two more processes of ten rounds"


def test_a_change_within_the_noise_is_not_one() -> None:
    wild = [900.0, 950.0, 1000.0, 1050.0, 1100.0] * 4
    found = change(side(wild), side([1.06 * one for one in wild]))
    assert found.noise > 1.06
    assert (found.verdict, found.more_rounds) == ("inconclusive", None)
    assert "noise" in found.why
    assert change(side(CALM), side([1.06 * one for one in CALM])).verdict == "slower"


CALM = [995.0, 998.0, 1000.0, 1002.0, 1005.0] * 4
PACES = [one / 25 for one in CALM]


def test_a_machine_that_became_slower_is_no_slower_model() -> None:
    slowed, paces = [1.1 * one for one in CALM], [1.1 * one for one in PACES]
    found = change(side(CALM, PACES), side(slowed, paces))
    assert (found.verdict, found.more_rounds) == ("inconclusive", None)
    assert found.why == "the machine's own pace changed by 10.0%"
    assert change(side(CALM), side(slowed)).verdict == "slower", "without a pace nobody can tell"


def test_a_machine_that_became_slower_hides_no_model_that_became_slower_still() -> None:
    slowed, paces = [1.2 * one for one in CALM], [1.05 * one for one in PACES]
    assert change(side(CALM, PACES), side(slowed, paces)).verdict == "slower"
    assert change(side(slowed, paces), side(CALM, PACES)).verdict == "faster"


def test_a_slower_model_on_a_quicker_machine_is_slower() -> None:
    slowed, paces = [1.1 * one for one in CALM], [one / 1.2 for one in PACES]
    assert change(side(CALM, PACES), side(slowed, paces)).verdict == "slower"


def test_a_pace_that_moves_alone_decides_nothing() -> None:
    """The call may have become slower by what the machine became quicker."""
    found = change(side(CALM, PACES), side(CALM, [0.9 * one for one in PACES]))
    assert (found.verdict, found.more_rounds) == ("inconclusive", None)
    assert found.why == "the machine's own pace changed by 11.1%"


def test_a_pace_that_only_spreads_stands_in_nobodys_way() -> None:
    rng = np.random.default_rng(5)
    paces = [(40 * rng.lognormal(0, 0.05, 20)).tolist() for _ in range(2)]
    assert change(side(CALM, paces[0]), side(CALM, paces[1])).verdict == "no change"
    assert change(side(CALM, paces[0]), side([1.05 * one for one in CALM], paces[1])).verdict == "slower"


def test_many_comparisons_share_the_false_alarms() -> None:
    rng = np.random.default_rng(3)
    old, new = draws(rng, count=7, spread=0.004), draws(rng, 1.05, count=7, spread=0.004)
    assert change(old, new).verdict == "slower"
    assert change(old, new, comparisons=100).verdict == "inconclusive"


def test_equals_raise_a_false_alarm_as_seldom_as_promised_although_the_machine_drifts() -> None:
    rng = np.random.default_rng(7)
    trials = 600
    alarms = sum(
        change(draws(rng), draws(rng, drift=float(rng.lognormal(0, 0.1)))).verdict in WORDS for _ in range(trials)
    )
    assert alarms <= 2 * FALSE_ALARMS * trials
    naive = sum(
        change(
            replace(draws(rng), pace_us=None), replace(draws(rng, drift=float(rng.lognormal(0, 0.1))), pace_us=None)
        ).verdict
        in WORDS
        for _ in range(trials)
    )
    assert naive > 10 * FALSE_ALARMS * trials, "the drift is there: without the pace it is taken for a change"


def test_a_slowdown_of_five_percent_is_found() -> None:
    rng = np.random.default_rng(11)
    trials = 200
    found = sum(change(draws(rng), draws(rng, 1.05)).verdict == "slower" for _ in range(trials))
    assert found >= 0.85 * trials


def test_the_largest_split_is_the_largest() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 0.1, 10)
    worst = largest_split(values)
    for _ in range(200):
        mixed = rng.permutation(values)
        assert np.median(mixed[:5]) / np.median(mixed[5:]) - 1 <= worst + 1e-12
    assert largest_split([1.0, 2.0, 3.0]) == 2.0


# Calm


def test_calm_is_near_the_best_pace_and_alone_on_the_cpu() -> None:
    samples = Samples([1.0] * 6, {1}, [40.0, 40.0, 55.0, 44.0, 40.0, 40.0])
    assert calm(samples, 40.0) == (0, 3, 4, 5)
    assert calm(samples, float("inf")) == (0, 2, 3, 4, 5)
    assert calm(Samples([1.0, 2.0]), 40.0) == (0, 1)


def test_the_quickest_is_what_one_in_twenty_is_quicker_than() -> None:
    assert quickest([float(one) for one in range(1, 101)]) == pytest.approx(5.95)
    assert quickest([]) == float("inf")


def test_a_process_that_was_hardly_calm_does_not_count_and_where_most_were_not_none_does() -> None:
    quiet, loud = Samples([1.0] * 9, (), [40.0] * 9), Samples([9.0] * 9, (), [40.0] * (FEW - 1) + [80.0] * (10 - FEW))
    assert [len(rounds) for rounds in counting([quiet, quiet, loud])] == [9, 9, 0]
    assert counting([quiet, loud, loud]) == [(), (), ()]
