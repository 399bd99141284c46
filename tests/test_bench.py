"""The thorough bench: only verified checks are timed, in turns and in fresh processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.check.settings import Settings
from harness.engine.bench import BenchSettings, bench_cases, case_at_shapes, parse_cpus, shapes_of, with_shapes
from harness.engine.bench import process as bench_process
from harness.engine.bench.process import LoadedTarget, ProcessMeasurement, Task, measure_task, options_of, series_name
from harness.engine.bench.timing import FreshProcesses, TimedCase, measure_in_turns, time_all, with_latency
from harness.engine.processes import serving
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


def test_a_case_at_other_shapes_keeps_the_expectations_for_any_shape() -> None:
    resized = case_at_shapes(CASE, {"x": (8, 3)})
    assert resized.id == "relu/image at x=[8,3]"
    assert shapes_of(resized) == "x=[8,3]"
    assert resized.expect == Expectation(formula="maximum(0, x)", range=(0.0, 9.0))
    assert resized.bench == ()
    assert resized.inputs[0].seed == CASE.inputs[0].seed


def test_each_bench_shape_is_verified_and_timed_once_and_the_shape_of_the_case_not_again() -> None:
    assert [shapes_of(case) for case in bench_cases(CASE)] == ["x=[8,3]", "x=[64,3]"]
    plan = with_shapes(Plan(((CASE, (TRACE,)), (replace(CASE, id="b", bench=()), (ORT,)))))
    assert [(case.id, targets) for case, targets in plan.jobs] == [
        ("relu/image", (TRACE,)),
        ("relu/image at x=[8,3]", (TRACE,)),
        ("relu/image at x=[64,3]", (TRACE,)),
        ("b", (ORT,)),
    ]


# Turns


def test_every_case_has_its_turn_before_any_has_its_next_in_changing_order() -> None:
    timed = [TimedCase(replace(CASE, id=name), (TRACE,)) for name in "abcd"]
    measured_tasks: list[tuple[str, int]] = []

    def measure(task: Task) -> ProcessMeasurement:
        measured_tasks.append((task.case.id, task.turn))
        return ProcessMeasurement(measurement({}), {})

    done: list[None] = []
    bench = replace(BENCH, processes=6)
    outcomes = measure_in_turns(timed, bench, Settings(), Path(), measure, lambda: done.append(None))
    rounds = [measured_tasks[begin : begin + 4] for begin in range(0, len(measured_tasks), 4)]
    assert [sorted(turn) for turn in rounds] == [[(name, turn) for name in "abcd"] for turn in range(6)]
    assert len({tuple(name for name, _ in turn) for turn in rounds}) > 2
    assert len(done) == 24
    assert {name: len(of) for name, of in outcomes.items()} == dict.fromkeys("abcd", 6)


def test_a_case_whose_process_does_not_finish_has_no_further_turn() -> None:
    timed = [TimedCase(replace(CASE, id=name), (TRACE,)) for name in "ab"]
    measured_tasks: list[str] = []

    def measure(task: Task) -> ProcessMeasurement | str:
        measured_tasks.append(task.case.id)
        return "the process was killed by SIGSEGV" if task.case.id == "a" else ProcessMeasurement(measurement({}), {})

    outcomes = measure_in_turns(timed, BENCH, Settings(), Path(), measure, lambda: None)
    assert (measured_tasks.count("a"), measured_tasks.count("b")) == (1, 3)
    assert outcomes["a"] == ["the process was killed by SIGSEGV"]


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


# Latency


def measurement(calls: Mapping[str, float], count: int = 10) -> Measurement:
    rng = np.random.default_rng(len(calls))
    series = {
        name: Series(Samples(tuple((us * rng.lognormal(0, 0.001, count)).tolist())), 1, 10, 2 * us)
        for name, us in calls.items()
    }
    return Measurement(series, 0.1, 50, 10.0)


def process(factor: float = 1.0, errors: Mapping[str, str] | None = None) -> ProcessMeasurement:
    calls = {
        "eager": 10.0,
        series_name(ORT): 20.0 * factor,
        series_name(ORT, "iobinding=off"): 30.0 * factor,
        series_name(ORT, "transfer"): 5.0,
    }
    loaded = LoadedTarget({"threads": 1}, 0.25, 0.125, (18.0, 19.0, 20.0))
    return ProcessMeasurement(measurement(calls), {str(ORT): loaded}, errors or {})


def row_with_latency(outcomes: Mapping[str, list[ProcessMeasurement | str]]) -> Result:
    row = Result(CASE.id, str(ORT), "passed")
    (row,) = with_latency(Plan(((CASE, (ORT,)),)), [row], outcomes, BENCH)
    return row


EVERYWHERE = (CASE.id, f"{CASE.id} at x=[8,3]", f"{CASE.id} at x=[64,3]")


def test_the_latency_covers_all_processes() -> None:
    outcomes: dict[str, list[ProcessMeasurement | str]] = {
        name: [process(1 + at + turn / 100) for turn in range(6)] for at, name in enumerate(EVERYWHERE)
    }
    latency = row_with_latency(outcomes).latency
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
    assert "samples_us" not in latency["by_shape"][0], "they are at the top level"
    assert len(latency["by_shape"][1]["samples_us"]) == 6


def test_a_check_that_cannot_be_timed_has_a_note() -> None:
    one = row_with_latency({name: [process(errors={str(ORT): "no memory"})] for name in EVERYWHERE})
    assert one.latency is None
    assert one.notes == ("not timed: no memory",)
    crashed = row_with_latency(
        {CASE.id: [process()], EVERYWHERE[1]: ["the process was killed by SIGSEGV"], EVERYWHERE[2]: []}
    )
    assert crashed.latency is not None
    assert crashed.notes == (
        "not timed at x=[8,3]: the process was killed by SIGSEGV",
        "not timed at x=[64,3]: no process was started",
    )


def test_the_tables_show_every_shape_and_latency_by_input_size() -> None:
    outcomes: dict[str, list[ProcessMeasurement | str]] = {
        name: [process(1 + at + turn / 100) for turn in range(6)] for at, name in enumerate(EVERYWHERE)
    }
    blocks = "\n\n".join(latency_blocks([row_with_latency(outcomes)]))
    assert "### Latency by input size" in blocks
    grows = blocks.split("### Latency by input size")[1]
    assert grows.index("x=[1,3]") < grows.index("x=[8,3]") < grows.index("x=[64,3]")
    assert "iobinding=off" in blocks
    assert "transfers alone 5" in blocks


# Settings


def test_threads_go_to_targets_that_do_not_set_them() -> None:
    two = replace(BENCH, threads=2)
    assert options_of(ORT, task(bench=two)) == {"threads": "2"}
    assert options_of(parse_target("trace/torch-cpu?threads=3"), task(bench=two)) == {"threads": "3"}
    assert options_of(parse_target("onnx-torchscript@17/reference"), task(bench=two)) == {}
    assert options_of(ORT, task()) == {}


def test_a_budget_covers_all_processes_and_rounds_are_exact() -> None:
    by_budget = BenchSettings(budget_s=5.0, processes=20).sampling_limits(4)
    assert by_budget.budget_s + 4 * by_budget.warmup_s <= 0.25 + 1e-9
    fixed = BenchSettings(rounds=7).sampling_limits(4)
    assert (fixed.min_rounds, fixed.max_rounds) == (7, 7)


def test_the_settings_are_read_back_from_a_report() -> None:
    settings = BenchSettings(2.0, 5, None, 2, (0, 1))
    run = {"bench": {"budget_s": 2.0, "processes": 5, "rounds": None, "threads": 2, "cpus": [0, 1]}}
    assert BenchSettings.from_report(run) == settings
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
    """A session on a device with its own clock."""

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
    # Loading would change torch for all tests in this process.
    monkeypatch.setattr(serving, "load_for_specs", lambda: None)
    monkeypatch.setattr(bench_process, "plugins", lambda _kind: {"device": runtime, "torch-cpu": refusing})
    return runtime


refusing = DeviceRuntime(refuses=True)


def test_a_process_times_each_variant_separately(device: DeviceRuntime, tmp_path: Path) -> None:
    target = Target("trace", "device")
    result = measure_task(task(CASE, target, bench=replace(BENCH, rounds=4, threads=2), scratch=tmp_path))
    assert set(result.measurement.series) == {
        "eager",
        series_name(target),
        series_name(target, "iobinding=off"),
        series_name(target, "transfer"),
    }
    assert {len(one.samples.samples_us) for one in result.measurement.series.values()} == {4}
    assert {len(one.samples.calibration_us) for one in result.measurement.series.values()} == {4}
    loaded = result.loaded[str(target)]
    assert loaded.device_us is not None
    assert set(loaded.device_us) == {7.0}
    assert loaded.facts["threads"] == "2"
    assert [session.options.get("iobinding") for session in device.sessions] == [None, "off"]
    assert all(session.closed for session in device.sessions)


def test_a_target_that_cannot_be_timed_does_not_affect_the_others(device: DeviceRuntime, tmp_path: Path) -> None:
    good, bad = Target("trace", "device"), Target("trace", "torch-cpu")
    result = measure_task(task(CASE, bad, good, bench=replace(BENCH, rounds=3), scratch=tmp_path))
    assert list(result.loaded) == [str(good)]
    assert result.errors == {str(bad): "this device does not do ReLU"}


def test_a_killed_process_is_reported_and_the_next_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = FreshProcesses(torch=True)
    assert fresh.measure(replace(task(scratch=tmp_path), home=tmp_path / "nowhere")) == (
        f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}/nowhere'"
    )
    monkeypatch.setattr("harness.engine.bench.timing._measure_in_process", _killed)
    assert fresh.measure(task(scratch=tmp_path)) == "the process was killed by SIGKILL"
    monkeypatch.undo()
    assert isinstance(fresh.measure(task(scratch=tmp_path)), ProcessMeasurement)


def _killed(*_arguments: object) -> None:
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
    ("arguments", "message"),
    [
        (["--cpus", "999"], "--cpus 999: this process may not use CPU 999"),
        (["--processes", "0"], "--processes"),
        (["--budget", "-1"], "--budget"),
        (["-k", "nothing"], "-k nothing: matches no case"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    harness: Call, spec: Write, arguments: list[str], message: str
) -> None:
    spec("relu.yaml", RELU)
    ran = harness("bench", "specs", *arguments)
    assert ran.code == 2
    assert message in ran.err


def test_a_run_against_a_baseline_is_timed_as_the_baseline_was(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    arguments = ("specs", "-k", "signed", "--targets", "trace/torch-cpu")
    assert harness("bench", *arguments, *SHORT).code == 0
    (here / "reports" / "latest" / "report.json").rename(here / "old.json")
    ran = harness("run", *arguments, "--baseline", "old.json", "--min-effect", "1000", "-j", "1")
    assert ran.code == 0
    assert "No regression." in ran.out
    assert ran.report["run"]["baseline"] == {"file": "old.json", "verdict": "No regression."}
    assert len(ran.only["latency"]["samples_us"]) == 2


def test_a_check_that_is_worse_than_its_baseline_fails_the_run(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    arguments = ("--no-latency", "--targets", "trace/torch-cpu", "-j", "1")
    assert harness("run", "specs", "-k", "signed", *arguments).code == 0
    (here / "reports" / "latest" / "report.json").rename(here / "old.json")
    spec(
        "relu.yaml", RELU.replace("{x: {shape: [2, 3]}}, bench", "{x: {shape: [2, 3]}}, expect: {range: [5, 6]}, bench")
    )
    ran = harness("run", "specs", "-k", "signed", *arguments, "--baseline", "old.json")
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "Regressed: 1 no longer as expected."
    (change,) = ran.report["run"]["comparison"]["parity"]
    assert (change["kind"], change["after"]) == ("regressed", "failed, compare: mismatch")
    unreadable = harness("run", "specs", "--baseline", "nowhere.json")
    assert unreadable.code == 2
    assert "nowhere.json" in unreadable.err
