"""Sampling, on a clock that only moves when a call says so."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Callable, Iterator
from itertools import chain, cycle, groupby, repeat

import pytest

from harness.latency import Effort, Timer, measure, quick
from harness.latency.conditions import MachineState, Samples, pace, read_machine, read_machine_thoroughly

QUIET = MachineState(load=0.5, preempted=0, throttled=0, cpus=2, stolen_s=0.0, mhz=3000.0)
EFFORT = Effort(budget_s=0.01, least=10, most=30, warmup_s=0.001, patience_s=0.1)


class World:
    """A clock of so many nanoseconds a reading, and calls that take the time they are given (us)."""

    def __init__(self, tick: int = 50) -> None:
        self.now = 0
        self.tick = tick
        self.slowness = 1.0
        self.preemptions = 0
        self.made: list[str] = []

    def __call__(self) -> int:
        self.now += self.tick
        return self.now

    def call(self, name: str, *costs: float) -> Callable[[], object]:
        left: Iterator[float] = chain(costs[:-1], repeat(costs[-1]))

        def work() -> None:
            self.made.append(name)
            self.now += round(next(left) * 1000 * self.slowness)

        return work

    @property
    def pace(self) -> Callable[[], None]:
        """Work that takes as long as the machine is slow."""

        def work() -> None:
            self.now += round(2_000 * self.slowness)

        return work


def still() -> MachineState:
    return QUIET


def test_a_figure_is_the_time_of_a_call() -> None:
    world = World()
    latency = quick(world.call("a", 5.0), world.call("b", 4.0), timer=Timer(world), between=world.pace, machine=still)
    assert latency.median_us == pytest.approx(5.0, rel=0.01)
    assert latency.eager_us == pytest.approx(4.0, rel=0.01)
    assert latency.ratio == pytest.approx(1.25, rel=0.001)
    assert latency.quotable
    assert latency.notes == ()


def test_a_batch_lasts_far_longer_than_a_tick_of_the_clock() -> None:
    for tick, batch in ((50, 10), (300, 10), (1000, 20)):
        world = World(tick)
        timer = Timer(world)
        series = measure({"a": world.call("a", 5.0)}, EFFORT, random.Random(0), timer, still).series["a"]
        assert timer.resolution_ns == tick
        assert series.batch == pytest.approx(batch, rel=0.2)
        assert series.batch * 5000 >= 80 * tick


def test_the_first_calls_do_not_count() -> None:
    world = World()
    calls = {"a": world.call("a", 106.0, 12.0, 9.0, 8.0, 7.0, 6.0, 5.0)}
    series = measure(calls, EFFORT, random.Random(0), Timer(world), still).series["a"]
    assert series.first_us == pytest.approx(106.0, rel=0.01)
    assert series.warmup_calls >= 11
    assert series.samples.samples_us == pytest.approx([5.0] * len(series.samples.samples_us), rel=0.01)


def test_a_warm_up_that_never_ends_is_ended() -> None:
    world = World()
    falling = [1000.0 * 0.9**turn for turn in range(60)]
    series = measure({"a": world.call("a", *falling)}, EFFORT, random.Random(0), Timer(world), still).series["a"]
    assert series.warmup_calls <= 3


def test_every_call_is_made_once_a_round_in_changing_order() -> None:
    world = World()
    calls = {name: world.call(name, 100.0) for name in "abc"}
    measurement = measure(calls, EFFORT, random.Random(0), Timer(world), still)
    rounds = len(measurement.series["a"].samples.samples_us)
    assert all(len(series.samples.samples_us) == rounds for series in measurement.series.values())
    made = world.made[-6 * rounds :]
    timed = made[1::2]
    assert timed == made[::2], "each timed batch comes after an untimed call of its own, which fills the caches"
    orders = ["".join(timed[at : at + 3]) for at in range(0, len(timed), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 2


def test_what_a_call_finds_after_other_calls_is_not_its_time() -> None:
    """What ran before left the caches full of its own: the first call is slow, and is made untimed."""
    world = World()
    last = ""

    def call(name: str) -> Callable[[], object]:
        def work() -> None:
            nonlocal last
            world.now += 100_000 if name == last else 180_000
            last = name

        return work

    measurement = measure({name: call(name) for name in "ab"}, EFFORT, random.Random(0), Timer(world), still)
    for series in measurement.series.values():
        assert series.samples.samples_us == pytest.approx([100.0] * len(series.samples.samples_us), rel=0.01)


def test_the_order_is_the_generators() -> None:
    def orders(seed: int) -> list[str]:
        world = World()
        measure({name: world.call(name, 100.0) for name in "ab"}, EFFORT, random.Random(seed), Timer(world), still)
        return world.made

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_machine_that_slows_down_does_not_change_the_ratio() -> None:
    world = World()
    slow, fast = world.call("slow", 60.0), world.call("fast", 20.0)

    def throttling() -> None:
        world.slowness *= 1.01
        slow()

    latency = quick(throttling, fast, timer=Timer(world), between=world.pace, machine=still)
    assert world.slowness > 1.3
    assert latency.ratio == pytest.approx(3.0, rel=0.02)
    assert latency.iqr_us > 0.05 * latency.median_us


def test_small_layers_cost_a_few_milliseconds() -> None:
    for cost in (0.5, 3.0, 6.0, 20.0):
        world = World()
        quick(
            world.call("a", 106.0, 12.0, cost),
            world.call("b", cost),
            timer=Timer(world),
            between=world.pace,
            machine=still,
        )
        assert world.now < 8_000_000


@pytest.mark.parametrize("cost", [1e3, 1e4, 1e5, 1e6, 1e7])
def test_long_calls_are_made_few_times(cost: float) -> None:
    world = World()
    latency = quick(world.call("a", cost), world.call("b", cost), timer=Timer(world), between=world.pace, machine=still)
    assert latency.samples >= 1
    assert world.now / 1e9 <= 0.12 + 8 * cost / 1e6


def test_too_few_samples_are_told() -> None:
    world = World()
    latency = quick(world.call("a", 1e6), timer=Timer(world), between=world.pace, machine=still)
    assert latency.samples < 6
    assert latency.low_us is latency.high_us is latency.ratio is None
    assert not latency.quotable
    assert "too few for an interval" in latency.notes[0]


def test_a_coarse_clock_is_told_and_bounded() -> None:
    world = World(tick=15_000_000)
    latency = quick(world.call("a", 3.0), timer=Timer(world), between=world.pace, machine=still)
    assert not latency.quotable
    assert any("on a clock of 15000000 ns" in note for note in latency.notes)
    assert len(world.made) < 1000


def test_a_clock_that_stands_still_ends() -> None:
    assert Timer(lambda: 7).resolution_ns == 1


def test_garbage_waits_and_comes_back() -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(gc.isenabled())
        world.now += 50_000

    world = World()
    assert gc.isenabled()
    quick(look, timer=Timer(world), between=world.pace, machine=still)
    assert gc.isenabled()
    assert not any(seen)
    gc.disable()
    try:
        quick(look, timer=Timer(world), between=world.pace, machine=still)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_call_that_fails_is_not_swallowed() -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        quick(fail, machine=still)
    assert gc.isenabled()


def test_the_machine_is_read_before_and_after() -> None:
    world = World()
    states = iter([QUIET, MachineState(load=5.0, throttled=3, cpus=2, stolen_s=60.0, mhz=800.0)])
    latency = quick(world.call("a", 5.0), timer=Timer(world), between=world.pace, machine=lambda: next(states))
    assert "the machine is busy: load 5.0 on 2 CPUs" in latency.notes
    assert "the CPU was throttled for heat" in latency.notes
    assert any("of the time to other machines" in note for note in latency.notes)
    assert "the CPU's frequency moved between 800 and 3000 MHz" in latency.notes
    assert not latency.quotable


def test_a_sample_in_which_another_process_ran_is_kept_and_does_not_count() -> None:
    world = World()
    turns = 0

    def disturbed() -> None:
        nonlocal turns
        turns += 1
        world.now += 100_000
        if turns % 4 == 0:  # the other process takes nine times as long
            world.now += 900_000
            world.preemptions += 1

    timer = Timer(world, lambda: world.preemptions)
    latency = quick(disturbed, timer=timer, machine=still, between=world.pace)
    (samples,), (aside,) = latency.samples_us, latency.interrupted
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert latency.iqr_us < 1.0
    assert {samples[at] > 500.0 for at in aside} == {True}
    assert max(samples) > 500.0
    assert latency.calm == latency.samples - len(aside)


def test_a_neighbour_on_the_core_is_seen_by_the_pace() -> None:
    world = World()
    turns = 0

    def beside_a_neighbour() -> None:
        nonlocal turns
        turns += 1
        world.now += round(100_000 * world.slowness)
        world.slowness = 1.4 if turns % 16 >= 8 else 1.0

    latency = quick(beside_a_neighbour, timer=Timer(world), machine=still, between=world.pace)
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert 0.3 * latency.samples < latency.calm < 0.7 * latency.samples
    assert any("were disturbed by other work on the machine and are set aside" in note for note in latency.notes)
    assert latency.quotable


def test_where_every_sample_is_disturbed_all_of_them_count_and_it_is_told() -> None:
    world = World()
    timer = Timer(world, lambda: world.now)
    latency = quick(world.call("a", 100.0), timer=timer, machine=still, between=world.pace)
    assert latency.median_us == pytest.approx(100.0, rel=0.01)
    assert latency.calm == 0
    assert not latency.quotable
    assert any("too few of" in note and "all of them count" in note for note in latency.notes)


def test_each_sample_stands_between_two_paces_and_the_slower_one_is_kept() -> None:
    world = World()
    lasts = iter(range(1, 10_000))

    def frame() -> None:
        world.made.append("pace")
        world.now += 1000 * next(lasts)

    measured = measure(
        {name: world.call(name, 100.0) for name in "ab"},
        EFFORT,
        random.Random(0),
        Timer(world),
        still,
        frame,
    )
    a, b = (measured.series[name].samples for name in "ab")
    rounds = len(a.samples_us)
    assert len(a.pace_us) == len(b.pace_us) == rounds
    last = [next(group) for _, group in groupby(world.made)][-5:]
    assert [name == "pace" for name in last] == [True, False, True, False, True]
    by_name = {"a": a, "b": b}
    assert by_name[last[1]].pace_us[-1] < by_name[last[3]].pace_us[-1]


def test_a_pace_is_the_quickest_of_its_pieces() -> None:
    world = World()
    lasts = cycle((90.0, 11.0, 10.0, 12.0, 30.0))

    def piece() -> None:
        world.now += round(1000 * next(lasts))

    measured = measure({"a": world.call("a", 100.0)}, EFFORT, random.Random(0), Timer(world), still, piece)
    paces = measured.series["a"].samples.pace_us
    assert (min(paces), max(paces)) == pytest.approx((10.0, 10.0), rel=0.01)


def test_the_real_pace_works() -> None:
    found = pace()
    samples = (
        measure({"sum": lambda: sum(range(100))}, EFFORT, random.Random(0), None, still, found).series["sum"].samples
    )
    assert min(samples.pace_us) > 0
    assert isinstance(samples, Samples)


def test_what_a_report_holds_is_json_with_four_digits() -> None:
    world = World()
    told = quick(world.call("a", 5.123456), timer=Timer(world), between=world.pace, machine=still).to_dict()
    assert told["median_us"] == pytest.approx(5.123456, rel=0.01)
    assert told["median_us"] == float(f"{told['median_us']:.4g}")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["eager_us"] is None


def test_the_real_machine_can_be_read() -> None:
    assert (read_machine().cpus or 0) >= 1
    thorough = read_machine_thoroughly()
    assert (thorough.load is None) == (read_machine().load is None)
    assert (thorough.preempted or 0) >= 0


def test_the_real_clock_is_fine_enough() -> None:
    assert 1 <= Timer().resolution_ns < 1_000_000
    assert quick(lambda: sum(range(100)), lambda: sum(range(50))).samples >= 10
