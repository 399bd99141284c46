"""Intervals with their stated coverage, percentiles only where samples allow them, and notes on low confidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.latency import Measurement, Series, paired_ratio, summarise
from harness.latency.conditions import MachineState, Samples, throttle_count
from harness.latency.figure import LatencyNote, latency_notes
from harness.latency.statistics import median_rank, signed_rank

TIMES = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=60)


@pytest.mark.parametrize("count", [*range(1, 41), 100, 500, 1023, 1024, 5000])
def test_the_interval_of_the_median_is_binomial(count: int) -> None:
    rank = median_rank(count)
    inside = stats.binom(count, 0.5)
    if rank is None:
        assert inside.cdf(0) > 0.025
    else:
        assert inside.cdf(rank) <= 0.025 < inside.cdf(rank + 1)


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("count", [*range(1, 30), 101])
def test_the_interval_of_the_median_is_binomial_at_any_confidence(count: int, confidence: float) -> None:
    ranks = np.flatnonzero(stats.binom(count, 0.5).cdf(np.arange(count)) <= (1 - confidence) / 2)
    assert median_rank(count, confidence) == (ranks[-1] if len(ranks) else None)


@pytest.mark.parametrize(
    ("count", "critical"), [(5, None), (6, 0), (7, 2), (8, 3), (10, 8), (15, 25), (20, 52), (30, 137)]
)
def test_the_signed_rank_is_that_of_the_tables(count: int, critical: int | None) -> None:
    """Critical values for 2.5% in each tail, from published tables of Wilcoxon's signed-rank test."""
    assert signed_rank(count) == critical


def test_the_normal_approximation_continues_the_exact_values() -> None:
    for count in (59, 60, 61, 62):
        ranks = [signed_rank(count), signed_rank(count + 1)]
        assert ranks[0] is not None
        assert ranks[1] is not None
        assert 10 < ranks[1] - ranks[0] < 40


@pytest.mark.parametrize("count", [8, 20, 45])
def test_intervals_have_their_stated_coverage(count: int) -> None:
    rng = np.random.default_rng(0)
    trials = 1000
    covered = [0, 0]
    for _ in range(trials):
        call, baseline = rng.lognormal(0, 0.4, count), rng.lognormal(0, 0.4, count) * 0.5
        summary, ratio = summarise(call), paired_ratio(call, baseline)
        assert summary.low is not None
        assert summary.high is not None
        assert ratio.low is not None
        assert ratio.high is not None
        covered[0] += summary.low <= 1.0 <= summary.high
        covered[1] += ratio.low <= 2.0 <= ratio.high
    assert min(covered) >= 0.93 * trials
    assert covered[1] <= 0.985 * trials, "an interval that always covers the value says nothing"


def test_one_outlier_moves_neither_median_nor_ratio() -> None:
    steady = [10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9, 10.0]
    with_outlier = [*steady[:-1], 10_000.0]
    assert summarise(with_outlier).median == pytest.approx(10.0, rel=0.01)
    assert paired_ratio(with_outlier, steady).value == pytest.approx(1.0, rel=0.02)


def test_a_difference_of_five_percent_is_seen_through_shared_drift() -> None:
    drift = np.linspace(1.0, 2.0, 30)
    rng = np.random.default_rng(1)
    slow, fast = (1.05 * drift * rng.normal(1, 0.01, 30), drift * rng.normal(1, 0.01, 30))
    ratio = paired_ratio(slow, fast)
    assert ratio.low is not None
    assert ratio.high is not None
    assert 1.03 < ratio.low < ratio.value < ratio.high < 1.07


@given(TIMES, st.floats(0.01, 100))
def test_the_ratio_of_scaled_times_is_the_factor(times: list[float], factor: float) -> None:
    ratio = paired_ratio([factor * item for item in times], times)
    assert ratio.value == pytest.approx(factor)
    assert (ratio.low is None) == (len(times) < 6)


@given(TIMES)
def test_a_summary_keeps_its_order(times: list[float]) -> None:
    summary = summarise(times)
    assert min(times) <= summary.median <= max(times)
    if summary.low is not None and summary.high is not None:
        assert min(times) <= summary.low <= summary.median <= summary.high <= max(times)
    assert (summary.low is None) == (len(times) < 6)
    assert summary.iqr >= 0
    assert summary.mad >= 0


@pytest.mark.parametrize(
    ("count", "p90", "p99"), [(49, False, False), (50, True, False), (499, True, False), (500, True, True)]
)
def test_a_percentile_needs_samples_beyond_it(count: int, p90: bool, p99: bool) -> None:
    summary = summarise(range(count))
    assert (summary.p90 is not None, summary.p99 is not None) == (p90, p99)


def notes(samples: list[float], batch: int = 10, loop_ns: float = 10) -> list[LatencyNote]:
    series = Series(Samples(tuple(samples)), batch, warmup_calls=10, first_us=1.0)
    measurement = Measurement({"a": series}, seconds=0.01, resolution_ns=50, loop_ns=loop_ns)
    return list(latency_notes(summarise(samples), [series], [measurement], len(samples)))


def test_a_steady_latency_has_no_notes() -> None:
    assert notes([5.0, 5.1] * 10) == []


def test_a_sample_too_short_for_the_clock() -> None:
    result = notes([0.05] * 20, batch=1)
    assert [note.low_confidence for note in result] == [True]
    assert result[0].text == "a sample lasts 50 ns, and the clock's resolution is 50 ns"


def test_a_wide_interval_lowers_confidence_and_a_wide_spread_is_noted() -> None:
    result = notes([5.0, 9.0, 5.0, 9.0, 5.0, 9.0, 5.0, 9.0, 5.0, 9.0])
    assert any(note.low_confidence and "the interval of the median is wide" in note.text for note in result)
    assert any("the middle half of the samples spans" in note.text and not note.low_confidence for note in result)


def test_the_overhead_of_the_loop_is_noted() -> None:
    assert notes([0.4] * 20, batch=100, loop_ns=10) == [LatencyNote("10 ns of each call are loop overhead")]
    assert notes([0.4] * 20, batch=100, loop_ns=5) == []


def test_throttling_is_counted_over_all_cores(tmp_path: Path) -> None:
    for core, count in enumerate((3, 4)):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert throttle_count(tmp_path) == 7
    assert throttle_count(tmp_path / "elsewhere") is None
    assert MachineState().throttled is None
