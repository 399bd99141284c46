"""The thorough bench: what verifies is timed, in turns and in fresh processes, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.bench import BenchSettings, parse_cpus, time_all, with_shapes
from harness.bench import process as bench_process
from harness.bench.process import Loaded, Taken, Task, options_of, series, take
from harness.bench.settings import at, bench_cases, shapes_of
from harness.bench.timing import FreshProcesses, Stand, take_turns, told
from harness.check.settings import Settings
from harness.engine.processes import libraries
from harness.errors import Location, Unsupported, UsageError
from harness.latency.conditions import Samples
from harness.latency.sampling import Measurement, Series
from harness.plan import Plan
from harness.report.tables.latency import latency_blocks
from harness.result import Result
from harness.spec.language.case import Case, Expectation, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import Target, parse_target
from tests.conftest import Call

TRACE, ORT = parse_target("trace/torch-cpu"), parse_target("onnx-torchscript@17/ort-cpu")
CASE = Case(
    "relu/image",
    "",
    WeightedModel(LayerModel("ReLU")),
    (TensorSpec("x", "float32", (1, 3)),),
    Location("relu.yaml"),
    expect=Expectation(shape=((1, 3),), formula="maximum(0, x)", range=(0.0, 9.0)),
    bench=({"x": (1, 3)}, {"x": (8, 3)}, {"x": (64, 3)}, {"x": (8, 3)}),
)
BENCH = BenchSettings(budget_s=0.2, processes=3)


def task(case: Case = CASE, *targets: Target, bench: BenchSettings = BENCH, scratch: Path = Path()) -> Task:
    return Task(case, targets or (TRACE,), 0, bench, Settings(cache=None), scratch, Path.cwd())


# Shapes


def test_a_case_at_other_shapes_keeps_what_holds_at_any_shape() -> None:
    moved = at(CASE, {"x": (8, 3)})
    assert moved.id == "relu/image at x=[8,3]"
    assert shapes_of(moved) == "x=[8,3]"
    assert moved.expect == Expectation(formula="maximum(0, x)", range=(0.0, 9.0))
    assert moved.bench == ()
    assert moved.inputs[0].seed == CASE.inputs[0].seed


def test_each_bench_shape_is_verified_and_timed_once_and_the_cases_own_not_again() -> None:
    assert [shapes_of(case) for case in bench_cases(CASE)] == ["x=[8,3]", "x=[64,3]"]
    plan = with_shapes(Plan(((CASE, (TRACE,)), (replace(CASE, id="b", bench=()), (ORT,)))))
    assert [(case.id, targets) for case, targets in plan.work] == [
        ("relu/image", (TRACE,)),
        ("relu/image at x=[8,3]", (TRACE,)),
        ("relu/image at x=[64,3]", (TRACE,)),
        ("b", (ORT,)),
    ]


# Turns


def test_every_stand_has_its_turn_before_any_has_its_next_in_changing_order() -> None:
    stands = [Stand(replace(CASE, id=name), (TRACE,)) for name in "abcd"]
    asked: list[tuple[str, int]] = []

    def answer(task: Task) -> Taken:
        asked.append((task.case.id, task.turn))
        return Taken(measured({}), {})

    done: list[None] = []
    bench = replace(BENCH, processes=6)
    taken = take_turns(stands, bench, Settings(), Path(), answer, lambda: done.append(None))
    rounds = [asked[begin : begin + 4] for begin in range(0, len(asked), 4)]
    assert [sorted(turn) for turn in rounds] == [[(name, turn) for name in "abcd"] for turn in range(6)]
    assert len({tuple(name for name, _ in turn) for turn in rounds}) > 2
    assert len(done) == 24
    assert {name: len(of) for name, of in taken.items()} == dict.fromkeys("abcd", 6)


def test_a_stand_whose_process_does_not_finish_has_no_further_turn() -> None:
    stands = [Stand(replace(CASE, id=name), (TRACE,)) for name in "ab"]
    asked: list[str] = []

    def answer(task: Task) -> Taken | str:
        asked.append(task.case.id)
        return "the process was ended by SIGSEGV" if task.case.id == "a" else Taken(measured({}), {})

    taken = take_turns(stands, BENCH, Settings(), Path(), answer, lambda: None)
    assert (asked.count("a"), asked.count("b")) == (1, 3)
    assert taken["a"] == ["the process was ended by SIGSEGV"]


# What is timed


def results(**statuses: str) -> list[Result]:
    names = {"own": CASE.id, "eight": f"{CASE.id} at x=[8,3]", "sixty": f"{CASE.id} at x=[64,3]"}
    return [
        Result(names[key], str(TRACE), status, message=f"{key} went wrong")  # type: ignore[arg-type]
        for key, status in statuses.items()
    ]


def test_a_wrong_answer_is_not_timed() -> None:
    plan = Plan(((CASE, (TRACE,)),))
    (row,) = time_all(plan, results(own="failed", eight="passed", sixty="passed"), BENCH, Settings(), Path())
    assert (row.status, row.latency, row.message) == ("failed", None, "own went wrong")


def test_a_wrong_answer_at_a_bench_shape_is_one_of_the_check_and_not_timed() -> None:
    plan = Plan(((CASE, (TRACE,)),))
    (row,) = time_all(plan, results(own="passed", eight="passed", sixty="failed"), BENCH, Settings(), Path())
    assert (row.case, row.status, row.latency) == (CASE.id, "failed", None)
    assert row.message == "at x=[64,3]: sixty went wrong"


# Figures


def measured(calls: Mapping[str, float], count: int = 10) -> Measurement:
    rng = np.random.default_rng(len(calls))
    taken = {
        name: Series(Samples(tuple((us * rng.lognormal(0, 0.001, count)).tolist())), 1, 10, 2 * us)
        for name, us in calls.items()
    }
    return Measurement(taken, 0.1, 50, 10.0)


def process(factor: float = 1.0, troubles: Mapping[str, str] | None = None) -> Taken:
    calls = {
        "eager": 10.0,
        series(ORT): 20.0 * factor,
        series(ORT, "iobinding=off"): 30.0 * factor,
        series(ORT, "transfer"): 5.0,
    }
    loaded = Loaded({"threads": 1}, 0.25, 0.125, (18.0, 19.0, 20.0))
    return Taken(measured(calls), {str(ORT): loaded}, troubles or {})


def figures(taken: Mapping[str, list[Taken | str]]) -> Result:
    row = Result(CASE.id, str(ORT), "passed")
    (found,) = told(Plan(((CASE, (ORT,)),)), [row], taken, BENCH)
    return found


EVERYWHERE = (CASE.id, f"{CASE.id} at x=[8,3]", f"{CASE.id} at x=[64,3]")


def test_the_figures_of_all_processes_come_together() -> None:
    taken: dict[str, list[Taken | str]] = {
        name: [process(1 + at + turn / 100) for turn in range(6)] for at, name in enumerate(EVERYWHERE)
    }
    latency = figures(taken).latency
    assert latency is not None
    assert latency["median_us"] == pytest.approx(20.5, rel=0.01)
    assert latency["ratio"] == pytest.approx(2.05, rel=0.01)
    assert latency["low_us"] <= latency["median_us"] <= latency["high_us"]
    assert (latency["processes"], latency["samples"], len(latency["samples_us"])) == (6, 60, 6)
    assert latency["noise"] == pytest.approx(0.03, rel=0.1)
    assert latency["variants"]["iobinding=off"]["median_us"] == pytest.approx(30.75, rel=0.01)
    assert latency["transfer"]["median_us"] == pytest.approx(5.0, rel=0.01)
    assert latency["by_device"]["median_us"] == 19.0
    assert (latency["load_s"], latency["first_run_s"], latency["threads"]) == (0.25, 0.125, 1)
    assert [(one["shapes"], one["elements"]) for one in latency["by_shape"]] == [
        ("x=[1,3]", 3),
        ("x=[8,3]", 24),
        ("x=[64,3]", 192),
    ]
    assert [one["median_us"] for one in latency["by_shape"]] == pytest.approx([20.5, 40.5, 60.5], rel=0.01)
    assert "samples_us" not in latency["by_shape"][0], "they stand above"
    assert len(latency["by_shape"][1]["samples_us"]) == 6


def test_what_cannot_be_timed_says_why() -> None:
    one = figures({name: [process(troubles={str(ORT): "no memory"})] for name in EVERYWHERE})
    assert one.latency is None
    assert one.notes == ("not timed: no memory",)
    crashed = figures({CASE.id: [process()], EVERYWHERE[1]: ["the process was ended by SIGSEGV"], EVERYWHERE[2]: []})
    assert crashed.latency is not None
    assert crashed.notes == (
        "not timed at x=[8,3]: the process was ended by SIGSEGV",
        "not timed at x=[64,3]: no process was started",
    )


def test_the_tables_show_every_shape_and_how_latency_grows() -> None:
    taken: dict[str, list[Taken | str]] = {
        name: [process(1 + at + turn / 100) for turn in range(6)] for at, name in enumerate(EVERYWHERE)
    }
    blocks = "\n\n".join(latency_blocks([figures(taken)]))
    assert "### How latency grows" in blocks
    grows = blocks.split("### How latency grows")[1]
    assert grows.index("x=[1,3]") < grows.index("x=[8,3]") < grows.index("x=[64,3]")
    assert "iobinding=off" in blocks
    assert "transfers alone 5" in blocks


# Settings


def test_threads_go_to_targets_that_leave_them_open() -> None:
    two = replace(BENCH, threads=2)
    assert options_of(ORT, task(bench=two)) == {"threads": "2"}
    assert options_of(parse_target("trace/torch-cpu?threads=3"), task(bench=two)) == {"threads": "3"}
    assert options_of(parse_target("onnx-torchscript@17/reference"), task(bench=two)) == {}
    assert options_of(ORT, task()) == {}


def test_a_budget_is_for_all_processes_and_rounds_are_kept_to() -> None:
    open_ = BenchSettings(budget_s=5.0, processes=20).effort(4)
    assert open_.budget_s + 4 * open_.warmup_s <= 0.25 + 1e-9
    fixed = BenchSettings(rounds=7).effort(4)
    assert (fixed.least, fixed.most) == (7, 7)


def test_a_report_says_how_it_was_timed_so_that_the_next_one_can_be_alike() -> None:
    asked = BenchSettings(2.0, 5, None, 2, (0, 1))
    written = {"bench": {"budget_s": 2.0, "processes": 5, "rounds": None, "threads": 2, "cpus": [0, 1]}}
    assert BenchSettings.from_report(written) == asked
    assert BenchSettings.from_report({}) is None
    assert BenchSettings.from_report({"bench": None}) is None


def test_cpus_are_numbers_and_ranges_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3, 5})
    assert parse_cpus("0,2-3") == (0, 2, 3)
    assert parse_cpus("5, 1") == (1, 5)
    for wrong in ("", "a", "1-", "-1", "1-b", "0,,1"):
        with pytest.raises(UsageError, match=f"--cpus {wrong}: .* is no CPU; write numbers"):
            parse_cpus(wrong)
    with pytest.raises(UsageError, match="may not use CPU 4; it may use 0, 1, 2, 3, 5"):
        parse_cpus("3-5")


# A process


class DeviceSession:
    """A session on a device that keeps its own clock."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options, self.closed = options, False

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(inputs)

    def bind(self, _inputs: Mapping[str, Any]) -> Callable[[], object]:
        return lambda: sum(range(100))

    def transfer(self, _inputs: Mapping[str, Any]) -> Callable[[], object]:
        return lambda: None

    def device_us(self, _inputs: Mapping[str, Any], runs: int) -> list[float]:
        return [7.0] * runs

    def facts(self) -> Mapping[str, Any]:
        return {"device": "cuda:0", **self.options}

    def close(self) -> None:
        self.closed = True


class DeviceRuntime:
    """A runtime with an IOBinding to switch off."""

    name, takes = "device", "torchscript"
    options: Mapping[str, str] = {"iobinding": "", "threads": ""}

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.sessions: list[DeviceSession] = []

    def load(self, _artifact: Any, options: Mapping[str, str]) -> DeviceSession:
        if self.refuses:
            raise Unsupported("this device does not do ReLU")
        self.sessions.append(DeviceSession(options))
        return self.sessions[-1]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> DeviceRuntime:
    runtime = DeviceRuntime()
    monkeypatch.setattr(libraries, "for_specs", lambda: None)  # it would change torch for all tests of this process
    monkeypatch.setattr(bench_process, "plugins", lambda _kind: {"device": runtime, "torch-cpu": refusing})
    return runtime


refusing = DeviceRuntime(refuses=True)


def test_a_process_times_each_way_of_calling_apart(device: DeviceRuntime, tmp_path: Path) -> None:
    target = Target("trace", "device")
    taken = take(task(CASE, target, bench=replace(BENCH, rounds=4, threads=2), scratch=tmp_path))
    assert set(taken.measurement.series) == {
        "eager",
        series(target),
        series(target, "iobinding=off"),
        series(target, "transfer"),
    }
    assert {len(one.samples.samples_us) for one in taken.measurement.series.values()} == {4}
    assert {len(one.samples.pace_us) for one in taken.measurement.series.values()} == {4}
    loaded = taken.loaded[str(target)]
    assert loaded.device_us is not None
    assert set(loaded.device_us) == {7.0}
    assert loaded.facts["threads"] == "2"
    assert [session.options.get("iobinding") for session in device.sessions] == [None, "off"]
    assert all(session.closed for session in device.sessions)


def test_a_target_that_cannot_be_timed_leaves_the_others_be(device: DeviceRuntime, tmp_path: Path) -> None:
    good, bad = Target("trace", "device"), Target("trace", "torch-cpu")
    taken = take(task(CASE, bad, good, bench=replace(BENCH, rounds=3), scratch=tmp_path))
    assert list(taken.loaded) == [str(good)]
    assert taken.troubles == {str(bad): "this device does not do ReLU"}


def test_a_process_that_dies_is_told_and_the_next_one_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = FreshProcesses(torch=True)
    assert fresh.take(replace(task(scratch=tmp_path), home=tmp_path / "nowhere")) == (
        f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}/nowhere'"
    )
    monkeypatch.setattr("harness.bench.timing._take", _killed)
    assert fresh.take(task(scratch=tmp_path)) == "the process was ended by SIGKILL"
    monkeypatch.undo()
    assert isinstance(fresh.take(task(scratch=tmp_path)), Taken)


def _killed(*_given: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# The command line

RELU = """
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {shape: [2, 3]}}, bench: [{x: [4, 3]}]}
  - {name: wrong, inputs: {x: {shape: [2, 3]}}, expect: {formula: x + 1}}
"""
SHORT = ("--processes", "2", "--rounds", "3", "--budget", "0.05", "-j", "1")
Write = Callable[[str, str], Path]


def test_bench_writes_the_same_report_with_thorough_figures(harness: Call, spec: Write) -> None:
    spec("relu.yaml", RELU)
    targets, cpu = "trace/torch-cpu,onnx-torchscript@17/ort-cpu", min(os.sched_getaffinity(0))
    ran = harness("bench", "specs", "--targets", targets, "--cpus", str(cpu), "--format", "json,md,csv", *SHORT)
    assert ran.code == 1, "one case expects what ReLU does not do"
    assert ran.report["run"]["bench"]["rounds"] == 3
    wrong, right = ran.rows["relu/wrong", "trace/torch-cpu"], ran.rows["relu/signed", "onnx-torchscript@17/ort-cpu"]
    assert (wrong["status"], wrong["latency"]) == ("failed", None)
    latency = right["latency"]
    assert [len(samples) for samples in latency["samples_us"]] == [3, 3]
    assert (latency["cpus"], latency["threads"], latency["iobinding"]) == ([cpu], 1, "on")
    assert set(latency["variants"]) == {"iobinding=off"}
    assert [one["shapes"] for one in latency["by_shape"]] == ["x=[2,3]", "x=[4,3]"]
    assert len(ran.rows) == 4, "a case at another shape is no check of its own"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cpus", "999"], "--cpus 999: this process may not use CPU 999"),
        (["--processes", "0"], "--processes"),
        (["--budget", "-1"], "--budget"),
        (["-k", "nothing"], "-k nothing: names none"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    harness: Call, spec: Write, arguments: list[str], said: str
) -> None:
    spec("relu.yaml", RELU)
    ran = harness("bench", "specs", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_a_run_against_a_baseline_is_timed_as_the_baseline_was(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    asked = ("specs", "-k", "signed", "--targets", "trace/torch-cpu")
    assert harness("bench", *asked, *SHORT).code == 0
    (here / "reports" / "latest" / "report.json").rename(here / "old.json")
    ran = harness("run", *asked, "--baseline", "old.json", "--min-effect", "1000", "-j", "1")
    assert ran.code == 0
    assert "No regression." in ran.out
    assert ran.report["run"]["baseline"] == {"file": "old.json", "verdict": "No regression."}
    assert len(ran.only["latency"]["samples_us"]) == 2


def test_a_check_that_is_worse_than_its_baseline_fails_the_run(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    asked = ("--no-latency", "--targets", "trace/torch-cpu", "-j", "1")
    assert harness("run", "specs", "-k", "signed", *asked).code == 0
    (here / "reports" / "latest" / "report.json").rename(here / "old.json")
    spec(
        "relu.yaml", RELU.replace("{x: {shape: [2, 3]}}, bench", "{x: {shape: [2, 3]}}, expect: {range: [5, 6]}, bench")
    )
    ran = harness("run", "specs", "-k", "signed", *asked, "--baseline", "old.json")
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "Regressed: 1 no longer as expected."
    (change,) = ran.report["run"]["comparison"]["parity"]
    assert (change["kind"], change["after"]) == ("regressed", "failed, compare: mismatch")
    unreadable = harness("run", "specs", "--baseline", "nowhere.json")
    assert unreadable.code == 2
    assert "nowhere.json" in unreadable.err
