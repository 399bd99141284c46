"""Sampling, on a simulated clock that only advances during calls."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Callable, Iterator
from itertools import chain, cycle, groupby, repeat

import pytest

from harness.latency import SamplingLimits, Timer, measure, smoke_timing
from harness.latency.conditions import MachineState, Samples, calibration_loop, read_machine, read_machine_thoroughly

QUIET = MachineState(load=0.5, preempted=0, throttled=0, cpus=2, stolen_s=0.0, mhz=3000.0)
LIMITS = SamplingLimits(budget_s=0.01, min_rounds=10, max_rounds=30, warmup_s=0.001, max_s=0.1)


class SimulatedClock:
    """A clock that advances ``tick`` ns at each reading, and calls with fixed durations in microseconds."""

    def __init__(self, tick: int = 50) -> None:
        self.now = 0
        self.tick = tick
        self.slowdown = 1.0
        self.preemptions = 0
        self.made: list[str] = []

    def __call__(self) -> int:
        self.now += self.tick
        return self.now

    def call(self, name: str, *costs: float) -> Callable[[], object]:
        remaining: Iterator[float] = chain(costs[:-1], repeat(costs[-1]))

        def work() -> None:
            self.made.append(name)
            self.now += round(next(remaining) * 1000 * self.slowdown)

        return work

    @property
    def calibration(self) -> Callable[[], None]:
        """Work that takes longer on a slower machine."""

        def work() -> None:
            self.now += round(2_000 * self.slowdown)

        return work


def quiet() -> MachineState:
    return QUIET


def test_the_latency_is_the_time_of_a_call() -> None:
    clock = SimulatedClock()
    latency = smoke_timing(
        clock.call("a", 5.0), clock.call("b", 4.0), timer=Timer(clock), calibration=clock.calibration, machine=quiet
    )
    assert latency.median_us == pytest.approx(5.0, rel=0.01)
    assert latency.eager_us == pytest.approx(4.0, rel=0.01)
    assert latency.ratio == pytest.approx(1.25, rel=0.001)
    assert not latency.low_confidence
    assert latency.notes == ()


def test_a_batch_lasts_far_longer_than_a_tick_of_the_clock() -> None:
    for tick, batch in ((50, 10), (300, 10), (1000, 20)):
        clock = SimulatedClock(tick)
        timer = Timer(clock)
        series = measure({"a": clock.call("a", 5.0)}, LIMITS, random.Random(0), timer, quiet).series["a"]
        assert timer.resolution_ns == tick
        assert series.batch == pytest.approx(batch, rel=0.2)
        assert series.batch * 5000 >= 80 * tick


def test_the_first_calls_do_not_count() -> None:
    clock = SimulatedClock()
    calls = {"a": clock.call("a", 106.0, 12.0, 9.0, 8.0, 7.0, 6.0, 5.0)}
    series = measure(calls, LIMITS, random.Random(0), Timer(clock), quiet).series["a"]
    assert series.first_us == pytest.approx(106.0, rel=0.01)
    assert series.warmup_calls >= 11
    assert series.samples.samples_us == pytest.approx([5.0] * len(series.samples.samples_us), rel=0.01)


def test_a_warm_up_that_never_settles_is_stopped() -> None:
    clock = SimulatedClock()
    falling = [1000.0 * 0.9**turn for turn in range(60)]
    series = measure({"a": clock.call("a", *falling)}, LIMITS, random.Random(0), Timer(clock), quiet).series["a"]
    assert series.warmup_calls <= 3


def test_every_call_is_made_once_a_round_in_changing_order() -> None:
    clock = SimulatedClock()
    calls = {name: clock.call(name, 100.0) for name in "abc"}
    measurement = measure(calls, LIMITS, random.Random(0), Timer(clock), quiet)
    rounds = len(measurement.series["a"].samples.samples_us)
    assert all(len(series.samples.samples_us) == rounds for series in measurement.series.values())
    made = clock.made[-6 * rounds :]
    timed = made[1::2]
    assert timed == made[::2], "each timed batch comes after an untimed call of its own, which fills the caches"
    orders = ["".join(timed[at : at + 3]) for at in range(0, len(timed), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 2


def test_the_first_call_after_another_one_is_not_timed() -> None:
    """The previous call filled the caches with other data. The first call is slow, so it is not timed."""
    clock = SimulatedClock()
    last = ""

    def call(name: str) -> Callable[[], object]:
        def work() -> None:
            nonlocal last
            clock.now += 100_000 if name == last else 180_000
            last = name

        return work

    measurement = measure({name: call(name) for name in "ab"}, LIMITS, random.Random(0), Timer(clock), quiet)
    for series in measurement.series.values():
        assert series.samples.samples_us == pytest.approx([100.0] * len(series.samples.samples_us), rel=0.01)


def test_the_order_comes_from_the_random_generator() -> None:
    def orders(seed: int) -> list[str]:
        clock = SimulatedClock()
        measure({name: clock.call(name, 100.0) for name in "ab"}, LIMITS, random.Random(seed), Timer(clock), quiet)
        return clock.made

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    clock = SimulatedClock()
    slow, fast = clock.call("slow", 60.0), clock.call("fast", 20.0)

    def throttling() -> None:
        clock.slowdown *= 1.01
        slow()

    latency = smoke_timing(throttling, fast, timer=Timer(clock), calibration=clock.calibration, machine=quiet)
    assert clock.slowdown > 1.3
    assert latency.ratio == pytest.approx(3.0, rel=0.02)
    assert latency.iqr_us > 0.05 * latency.median_us


def test_small_layers_cost_a_few_milliseconds() -> None:
    for cost in (0.5, 3.0, 6.0, 20.0):
        clock = SimulatedClock()
        smoke_timing(
            clock.call("a", 106.0, 12.0, cost),
            clock.call("b", cost),
            timer=Timer(clock),
            calibration=clock.calibration,
            machine=quiet,
        )
        assert clock.now < 8_000_000


@pytest.mark.parametrize("cost", [1e3, 1e4, 1e5, 1e6, 1e7])
def test_long_calls_are_made_only_a_few_times(cost: float) -> None:
    clock = SimulatedClock()
    latency = smoke_timing(
        clock.call("a", cost), clock.call("b", cost), timer=Timer(clock), calibration=clock.calibration, machine=quiet
    )
    assert latency.samples >= 1
    assert clock.now / 1e9 <= 0.12 + 8 * cost / 1e6


def test_too_few_samples_are_noted() -> None:
    clock = SimulatedClock()
    latency = smoke_timing(clock.call("a", 1e6), timer=Timer(clock), calibration=clock.calibration, machine=quiet)
    assert latency.samples < 6
    assert latency.low_us is latency.high_us is latency.ratio is None
    assert latency.low_confidence
    assert "too few for an interval" in latency.notes[0]


def test_a_coarse_clock_is_noted_and_the_calls_are_bounded() -> None:
    clock = SimulatedClock(tick=15_000_000)
    latency = smoke_timing(clock.call("a", 3.0), timer=Timer(clock), calibration=clock.calibration, machine=quiet)
    assert latency.low_confidence
    assert any("the clock's resolution is 15000000 ns" in note for note in latency.notes)
    assert len(clock.made) < 1000


def test_a_clock_that_never_moves_has_resolution_1() -> None:
    assert Timer(lambda: 7).resolution_ns == 1


def test_garbage_collection_is_off_while_sampling_and_restored() -> None:
    enabled: list[bool] = []

    def record() -> None:
        enabled.append(gc.isenabled())
        clock.now += 50_000

    clock = SimulatedClock()
    assert gc.isenabled()
    smoke_timing(record, timer=Timer(clock), calibration=clock.calibration, machine=quiet)
    assert gc.isenabled()
    assert not any(enabled)
    gc.disable()
    try:
        smoke_timing(record, timer=Timer(clock), calibration=clock.calibration, machine=quiet)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_exception_of_a_call_is_raised() -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        smoke_timing(fail, machine=quiet)
    assert gc.isenabled()


def test_the_machine_is_read_before_and_after() -> None:
    clock = SimulatedClock()
    states = iter([QUIET, MachineState(load=5.0, throttled=3, cpus=2, stolen_s=60.0, mhz=800.0)])
    latency = smoke_timing(
        clock.call("a", 5.0), timer=Timer(clock), calibration=clock.calibration, machine=lambda: next(states)
    )
    assert "the machine is busy: load 5.0 on 2 CPUs" in latency.notes
    assert "the CPU was throttled for heat" in latency.notes
    assert any("of the time to other machines" in note for note in latency.notes)
    assert "the CPU frequency varied between 800 and 3000 MHz" in latency.notes
    assert latency.low_confidence


def test_a_sample_in_which_another_process_ran_is_kept_but_does_not_count() -> None:
    clock = SimulatedClock()
    turns = 0

    def disturbed() -> None:
        nonlocal turns
        turns += 1
        clock.now += 100_000
        if turns % 4 == 0:  # the other process takes nine times as long
            clock.now += 900_000
            clock.preemptions += 1

    timer = Timer(clock, lambda: clock.preemptions)
    latency = smoke_timing(disturbed, timer=timer, machine=quiet, calibration=clock.calibration)
    (samples,), (interrupted,) = latency.samples_us, latency.interrupted
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert latency.iqr_us < 1.0
    assert {samples[at] > 500.0 for at in interrupted} == {True}
    assert max(samples) > 500.0
    assert latency.undisturbed == latency.samples - len(interrupted)


def test_the_calibration_loop_detects_a_neighbour_on_the_core() -> None:
    clock = SimulatedClock()
    turns = 0

    def beside_a_neighbour() -> None:
        nonlocal turns
        turns += 1
        clock.now += round(100_000 * clock.slowdown)
        clock.slowdown = 1.4 if turns % 16 >= 8 else 1.0

    latency = smoke_timing(beside_a_neighbour, timer=Timer(clock), machine=quiet, calibration=clock.calibration)
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert 0.3 * latency.samples < latency.undisturbed < 0.7 * latency.samples
    assert any("were disturbed by other work on the machine and do not count" in note for note in latency.notes)
    assert not latency.low_confidence


def test_where_every_sample_is_disturbed_all_of_them_count_with_low_confidence() -> None:
    clock = SimulatedClock()
    timer = Timer(clock, lambda: clock.now)
    latency = smoke_timing(clock.call("a", 100.0), timer=timer, machine=quiet, calibration=clock.calibration)
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert latency.undisturbed == 0
    assert latency.low_confidence
    assert any("too few of" in note and "all of them count" in note for note in latency.notes)


def test_each_sample_keeps_the_slower_calibration_time_of_the_two_around_it() -> None:
    clock = SimulatedClock()
    durations = iter(range(1, 10_000))

    def calibration() -> None:
        clock.made.append("calibration")
        clock.now += 1000 * next(durations)

    measured = measure(
        {name: clock.call(name, 100.0) for name in "ab"},
        LIMITS,
        random.Random(0),
        Timer(clock),
        quiet,
        calibration,
    )
    a, b = (measured.series[name].samples for name in "ab")
    rounds = len(a.samples_us)
    assert len(a.calibration_us) == len(b.calibration_us) == rounds
    last = [next(group) for _, group in groupby(clock.made)][-5:]
    assert [name == "calibration" for name in last] == [True, False, True, False, True]
    by_name = {"a": a, "b": b}
    assert by_name[last[1]].calibration_us[-1] < by_name[last[3]].calibration_us[-1]


def test_a_calibration_time_is_the_fastest_of_its_repeats() -> None:
    clock = SimulatedClock()
    durations = cycle((90.0, 11.0, 10.0, 12.0, 30.0))

    def calibration() -> None:
        clock.now += round(1000 * next(durations))

    measured = measure({"a": clock.call("a", 100.0)}, LIMITS, random.Random(0), Timer(clock), quiet, calibration)
    times = measured.series["a"].samples.calibration_us
    assert (min(times), max(times)) == pytest.approx((10.0, 10.0), rel=0.01)


def test_the_real_calibration_loop_runs() -> None:
    loop = calibration_loop()
    samples = (
        measure({"sum": lambda: sum(range(100))}, LIMITS, random.Random(0), None, quiet, loop).series["sum"].samples
    )
    assert min(samples.calibration_us) > 0
    assert isinstance(samples, Samples)


def test_a_latency_in_json_has_four_digits() -> None:
    clock = SimulatedClock()
    fields = smoke_timing(
        clock.call("a", 5.123456), timer=Timer(clock), calibration=clock.calibration, machine=quiet
    ).to_dict()
    assert fields["median_us"] == pytest.approx(5.123456, rel=0.01)
    assert fields["median_us"] == float(f"{fields['median_us']:.4g}")
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert fields["eager_us"] is None


def test_the_real_machine_can_be_read() -> None:
    assert (read_machine().cpus or 0) >= 1
    thorough = read_machine_thoroughly()
    assert (thorough.load is None) == (read_machine().load is None)
    assert (thorough.preempted or 0) >= 0


def test_the_real_clock_is_fine_enough() -> None:
    assert 1 <= Timer().resolution_ns < 1_000_000
    assert smoke_timing(lambda: sum(range(100)), lambda: sum(range(50))).samples >= 10
