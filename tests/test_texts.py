"""The texts that users read, as snapshots: a change of wording shows in a diff and is reviewed as such.

``pytest --snapshot-update tests/test_texts.py`` rewrites them. Each test has one file in ``__snapshots__/test_texts``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from harness.audit import Audit, MutantOutcome
from harness.audit import text as audit_text
from harness.cli import main
from harness.explain.explanation import Explanation, Script, ScriptRun
from harness.explain.shrink import ShrunkCase
from harness.explain.text import explanation_lines
from harness.inside.nodes.divergence import Divergence, Node, Walk
from harness.report.diff import Diff, ParityChange
from harness.report.diff.latency import LatencyChange
from harness.report.diff.text import show_diff
from harness.report.github import ANNOTATIONS, error_commands
from harness.report.junit import JUnitReport
from harness.report.markdown import MarkdownReport
from harness.report.terminal import SHOWN, UNFOLDED_WIDTH, Progress, show
from harness.report.wording import next_step
from harness.result import Blame, Report, Result, Symptom
from harness.runtimes import Availability
from harness.spec.discovery import load_specs
from harness.spec.targets import parse_target
from tests.report_samples import (
    AGREES,
    ALL,
    ENVIRONMENT,
    ERROR,
    FAILED,
    FIXED,
    KNOWN,
    LATENCY,
    PASSED,
    SKIPPED,
    report,
)
from tests.test_cli_help import commands
from tests.texts import MarkdownFile, TextFile, page_texts, script_texts, stable

Calls = Callable[..., str]


@pytest.fixture
def text_file(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(TextFile)


@pytest.fixture
def markdown_file(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(MarkdownFile)


@pytest.fixture
def calls(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Calls:
    """``calls(words, ...)``: each command line with its output and its exit code, as in a terminal 100 columns wide."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*lines: str) -> str:
        texts = []
        for line in lines:
            with pytest.raises(SystemExit) as ended:
                main(line.split())
            output, errors = capsys.readouterr()
            texts.append(f"$ harness {line}\n{output}{errors}[exit code {ended.value.code}]\n")
        return stable("\n".join(texts), here)

    return call


def printed(show_on: Callable[[Console], None], *, width: int = 100) -> str:
    stream = io.StringIO()
    show_on(Console(file=stream, width=width, color_system=None))
    return stable(stream.getvalue())


def sections(**texts: str) -> str:
    """Several short texts in one file, each below the situation in which a user reads it."""
    return "\n\n".join(f"== {name.replace('_', ' ')}\n{text.strip()}" for name, text in texts.items()) + "\n"


# The command line


@pytest.mark.parametrize("command", [(), ("known-failures",), *commands()], ids=lambda words: "-".join(words) or "all")
def test_help(calls: Calls, text_file: SnapshotAssertion, command: tuple[str, ...]) -> None:
    assert calls(" ".join([*command, "--help"])) == text_file


USAGE_ERRORS = (
    "rum specs/",
    "run",
    "run specs/ --latncy",
    "run specs/ -j many",
    "run specs/ --min-effect -1",
    "run specs/ --format jsn",
    "run specs/ --memory much",
    "run specs/ --shard 3/2",
    "run specs/ --ray-address host:1",
    "run specs/ -k nothing-has-this-name",
    "run nowhere/",
    "run empty/",
    "list specs/ --targets tracee/torch-cpu",
    "list specs/ --targets trace/torch-gpu",
    "list specs/ --targets trace",
    "list specs/ --targets onnx-dynamo@23/torch-cpu",
    "list specs/ --targets trace/torch-cpu?speed=fast",
    "list specs/ --targets onnx-*/none",
    "explain signd",
    "explain positive",
    "explain relu/signed",
    "explain relu/signed --target */*",
    "init Conv2d --arg 3",
    "init Conv2d --input 1,x",
    "diff old.json new.json",
    "merge old.json",
    "known-failures update old.json",
    "bench specs/ --cpus 0-",
)
SPEC = """\
harness: 1
layer: ReLU
cases:
  - {name: signed, about: values of both signs, inputs: {x: {values: [1.0, -2.0]}}}
  - {name: positive-1, inputs: {x: {fill: ones, shape: [1]}}}
  - {name: positive-2, inputs: {x: {fill: ones, shape: [2]}}}
"""
TARGETS = "default: [trace/torch-cpu, onnx-dynamo@23/ort-cpu]\n"


@pytest.fixture
def specs(here: Path) -> Path:
    folder = here / "specs"
    folder.mkdir()
    (here / "empty").mkdir()
    (folder / "relu.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "targets.yaml").write_text(TARGETS, encoding="utf-8")
    return folder


@pytest.mark.usefixtures("specs")
def test_usage_errors(calls: Calls, text_file: SnapshotAssertion) -> None:
    assert calls(*USAGE_ERRORS) == text_file


@pytest.mark.usefixtures("specs")
def test_list_and_check(calls: Calls, text_file: SnapshotAssertion) -> None:
    assert calls("check specs", "list specs", "list specs -k signed --targets trace/*") == text_file


def test_text_of_spec_errors(calls: Calls, specs: Path, text_file: SnapshotAssertion) -> None:
    """Five mistakes in one spec, and one in each of the other files, are all shown at once."""
    (specs / "relu.yaml").write_text(
        "harness: 1\n"
        "layer: MaxPol2d\n"
        "cases:\n"
        "  - {name: a, layer: MaxPool2d, args: {kernal_size: 2}, inputs: {x: {shape: [1, 1, 4, 4]}}}\n"
        "  - {name: b, layer: ReLU, inputs: {x: {shape: [2], fill: one}}}\n"
        "  - {name: c, layer: ReLU, inputs: {x: {values: [[1, 2], [3]]}}}\n"
        "  - {name: c, layer: ReLU, inputs: {x: {shape: [2]}}, expects: {range: [1, 0]}}\n"
        "  - {name: d, layer: ReLU, inputs: {x: {shape: [2]}}, expect: {formula: max(x; 0)}}\n",
        encoding="utf-8",
    )
    (specs / "targets.yaml").write_text("default: [trace/torch-gpu]\n", encoding="utf-8")
    (specs / "known-failures.yaml").write_text("- {cases: '*', targets: trace/*, stage: exprt}\n", encoding="utf-8")
    assert calls("check specs") == text_file


class FakeRuntime:
    def __init__(self, availability: Availability) -> None:
        self._availability = availability

    def availability(self) -> Availability:
        return self._availability


def test_text_of_doctor(calls: Calls, monkeypatch: pytest.MonkeyPatch, text_file: SnapshotAssertion) -> None:
    """The facts about the machine are fixed; the layout and the lines around them are the command's own."""
    runtimes: dict[str, Any] = {
        "ort-cpu": FakeRuntime(Availability(detail="onnxruntime 1.10")),
        "ort-cuda": FakeRuntime(Availability("no CUDA device", "a machine with an NVIDIA GPU", lacks_device=True)),
        "tract": FakeRuntime(Availability("tract is not installed", "pip install 'tract>=0.22'")),
    }
    monkeypatch.setattr("harness.registry.plugins", lambda _kind: runtimes)
    monkeypatch.setattr("harness.environment.versions", lambda: {"harness": "1.0", "torch": "2.10"})
    monkeypatch.setattr("harness.environment.dependency_problem", lambda: None)
    monkeypatch.setattr("harness.cli.doctor._workers", lambda: (True, "worker processes start"))
    monkeypatch.setattr("harness.cli.doctor._speed_ups", lambda: "Speed-ups of onnx-dynamo: split on")
    assert calls("doctor") == text_file


# The summary of a run

WRITTEN = (Path("reports/latest/report.json"), Path("reports/latest/report.md"))
INCONCLUSIVE = replace(PASSED, outputs=(replace(AGREES, inconclusive="an all-zero output would pass too"),))


def summary(made: Report, *, resume: tuple[str, ...] = (), width: int = 100) -> str:
    return printed(lambda console: show(made, WRITTEN, console, resume=resume), width=width)


def test_terminal(text_file: SnapshotAssertion) -> None:
    assert summary(report(*ALL)) == text_file


def test_terminal_in_a_pipe(text_file: SnapshotAssertion) -> None:
    assert summary(report(*ALL), width=UNFOLDED_WIDTH) == text_file


def test_terminal_endings(text_file: SnapshotAssertion) -> None:
    """What is printed in special situations, most of them the last line."""
    texts = sections(
        all_as_expected=summary(Report({}, (PASSED, KNOWN), {"exports": {"made": 2, "from_cache": 1}})),
        nothing_to_verify=summary(report()),
        nothing_compared=summary(report(SKIPPED)),
        inconclusive=summary(report(INCONCLUSIVE)),
        several_inconclusive=summary(report(INCONCLUSIVE, replace(INCONCLUSIVE, case="pool/avg/other"))),
        known_failure_that_matches_nothing=summary(
            Report(
                {}, (PASSED,), {"complaints": ["known-failures.yaml:1:1: matches nothing; remove it", "and another"]}
            )
        ),
        interrupted=summary(
            Report({}, (PASSED,), {"interrupted": True, "interrupted_by": "SIGTERM"}),
            resume=("harness", "run", "specs/", "--resume"),
        ),
        many_errors_for_one_reason=summary(report(*(replace(ERROR, case=f"a/c{number}") for number in range(30)))),
        one_cause_in_two_cases=summary(report(*(replace(FAILED, case=f"pool/avg/{name}") for name in "ab"))),
        more_than_are_shown=summary(
            report(*(replace(ERROR, case=f"a{n}/c", message="why " + n * "a") for n in range(2, SHOWN + 4)))
        ),
    )
    assert texts == text_file


def test_progress(monkeypatch: pytest.MonkeyPatch, text_file: SnapshotAssertion) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal gets no live line
    assert sections(in_a_log=progress(terminal=False), on_a_terminal=progress(terminal=True)) == text_file


def progress(*, terminal: bool) -> str:
    now = [0.0]
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, color_system=None)
    shown = Progress(console, clock=lambda: now[0])
    for unit, results in (("exports", [None] * 3), ("checks", [PASSED] * 30 + [FAILED, FIXED] + [PASSED] * 8)):
        shown.begin(len(results), unit)
        for result in results:
            now[0] += 20
            shown.advance(result)
        shown.end()
    if not terminal:
        return stream.getvalue()
    # The bar and the remaining time change with the clock; the words do not.
    last = stable(stream.getvalue().replace("\r", "\n")).strip().splitlines()[-1]
    return re.sub(r"[━╸╺ ]{2,}", " ... ", re.sub(r"-*\d*:\d\d|--:--", "TIME", last))


def test_next_steps(text_file: SnapshotAssertion) -> None:
    """The advice for each blame and each symptom, for an exported model and for a recorded file."""
    failed = [replace(FAILED, blame=blame) for blame in (*get_args(Blame), None)]
    ended = [replace(ERROR, symptom=symptom) for symptom in get_args(Symptom) if symptom != "mismatch"]
    recorded = [replace(result, target="file/ort-cpu", case="net") for result in (*failed, *ended)]
    texts = dict.fromkeys(advice(result) for result in (*failed, *ended, FIXED, *recorded))
    assert "\n\n".join(texts) + "\n" == text_file


def advice(result: Result) -> str:
    step = next_step(result)
    assert step is not None
    return f"{step.sentence}.\n  {step.command or '(no command)'}"


# Files of a report


def test_report_md(markdown_file: SnapshotAssertion) -> None:
    noted = replace(INCONCLUSIVE, checker="Field 'shape' of 'type' is required", notes=("the sign of zero differs",))
    run = {"exports": {"made": 5, "from_cache": 0}, "paths": ["specs"], "complaints": ["first", "second"]}
    made = Report(ENVIRONMENT, (*ALL, replace(noted, case="pool/avg/noted")), run)
    assert stable(MarkdownReport().render(made)) == markdown_file


def test_report_md_of_a_bench(markdown_file: SnapshotAssertion) -> None:
    low = {"low_confidence": True, "notes": ["the median is known to lie in a wide interval only"]}
    figure = {**LATENCY, "processes": 20, "p90_us": 13.0, "p99_us": 15.0, "noise": 0.012, "first_call_us": 80.5}
    shapes = [figure | {"shapes": f"x=[1,{size}]", "elements": size} for size in (16, 256)]
    timed = [
        replace(PASSED, latency={**figure, "shapes": "x=[1,16]", "elements": 16, "by_shape": shapes}),
        replace(PASSED, case="pool/avg/slow", latency={**figure, **low, "ratio": 0.5}),
    ]
    assert stable(MarkdownReport().render(report(*timed))) == markdown_file


def test_junit(text_file: SnapshotAssertion) -> None:
    short = (replace(result, log=result.log[:1], latency=None) for result in ALL)
    lines = re.sub(
        r"(?=<(?:testsuite|testcase|failure|error|skipped|system))", "\n", JUnitReport().render(report(*short))
    )
    assert stable(lines) == text_file


def test_github_annotations(text_file: SnapshotAssertion) -> None:
    many = [replace(FIXED, message=f"passes, although k.yaml:{line}:1 lists it") for line in range(1, ANNOTATIONS + 3)]
    alike = [replace(FAILED, case=f"pool/avg/{name}") for name in ("divisor", "padding")]
    texts = sections(
        one_of_each_kind=error_commands(report(*ALL)),
        many=error_commands(report(*many)),
        one_cause=error_commands(report(*alike)),
    )
    assert texts == text_file


def test_page(text_file: SnapshotAssertion) -> None:
    """The headings, tooltips and names for screen readers of ``report.html``."""
    assert stable("\n".join(["# page.html", *page_texts(), *script_texts()])) == text_file


def test_the_texts_of_a_script_are_distinguished_from_its_code() -> None:
    texts = list(script_texts())
    assert {"Where it differs", "nearer", "No check matches. Remove a word or a filter.", "Copied"} <= set(texts)
    assert not {"bar-top", "click", "aria-label", "summary", "en"} & set(texts)


# One check in detail, two reports, an audit

DIVISION = Node("node_Div_3", "Div", ("x float32[1, 1, 4, 4]", "4"), ("y",), ("count=4",))
AVERAGE = Node("node_AveragePool_1", "AveragePool", ("x float32[1, 1, 4, 4]",), ("val_1",), ())
DIVERGENCE = Divergence(
    DIVISION, "y", "3 of 4 values differ by more than the tolerance", "pool (AvgPool2d)", (AVERAGE, DIVISION),
    matched_by="the name of its scope",
)  # fmt: skip
WALK = Walk(nodes=7, kernel=None, module=DIVERGENCE, matched=2, modules=3, note="node_Cast_2 could not be evaluated")
PRINTED = ("expected [1.3333334]", "actual   [1.]", "wrong: output 0 differs")


@pytest.fixture
def explained(specs: Path) -> Callable[..., str]:
    """``explained(result, ...)``: the text of an explanation with further fields."""
    case = load_specs([str(specs)], allow_import=False).cases[0]

    def explain(result: Result, **further: Any) -> str:
        explanation = Explanation(case, parse_target("onnx-dynamo@18/ort-cpu"), result, **further)
        return "\n".join(explanation_lines(explanation, result, Path("reports/explain/relu-signed.py")))

    return explain


def test_text_of_explain(explained: Callable[..., str], specs: Path, text_file: SnapshotAssertion) -> None:
    case = load_specs([str(specs)], allow_import=False).cases[0]
    script = Script(case, "", ScriptRun(1, PRINTED, reproduced=True))
    crashed = Script(case, "", ScriptRun(-11, (), reproduced=True))
    by_rounding = replace(DIVERGENCE, rounding=True, siblings=())
    others = (
        replace(FAILED, target="onnx-torchscript@17/ort-cpu"),
        replace(PASSED, target="onnx-dynamo@18/reference"),
        replace(ERROR, target="onnx-dynamo@18/openvino"),
    )
    texts = sections(
        with_the_first_node_that_differs=explained(
            FAILED, other_results=others, walk=WALK, shrunk=ShrunkCase(case, 3, 20, minimal=True), script=script
        ),
        without_a_node_that_differs=explained(
            replace(FAILED, blame="optimizer", findings=(), distances=()),
            walk=replace(WALK, module=None, note=None),
            shrunk=ShrunkCase(case, 3, 20, minimal=False),
            no_script="the model is a file, which a script cannot contain",
        ),
        compared_with_the_float64_evaluation=explained(
            replace(FAILED, blame="rounding", outputs=(), findings=(), evidence=()),
            walk=Walk(1, by_rounding, None, 0, 0),
            no_script="the model is a file, which a script cannot contain",
        ),
        not_searched=explained(
            replace(FAILED, blame=None, evidence=("there is no float64 reference",)),
            walk="the exported program is TorchScript, which has no graph of ONNX nodes",
            script=crashed,
        ),
        error=explained(ERROR, script=script),
        known=explained(replace(KNOWN, outputs=(), findings=(), distances=(), checker=None), script=script),
        passed=explained(PASSED),
        fixed=explained(FIXED),
        skipped=explained(SKIPPED),
    )
    assert texts == text_file


def test_text_of_diff(text_file: SnapshotAssertion) -> None:
    case, target = "pool/avg/divisor", "trace/torch-cpu"
    parity = (
        ParityChange(case, target, "regressed", "passed", "failed, compare: mismatch", "3 of 4 values differ", True),
        ParityChange(case, target, "mended", "failed, compare: mismatch", "passed", "", False),
        ParityChange(case, target, "otherwise", "known, export: unsupported", "fixed", "", False),
        ParityChange(case, target, "unverified", "passed", "skipped, load: unavailable", "no CUDA device", False),
        ParityChange(case, target, "verified", "skipped, load: unavailable", "passed", "", False),
        ParityChange(case, target, "new", "", "passed", "", False),
        ParityChange(case, target, "gone", "passed", "", "", True),
        ParityChange(case, target, "numbers", "largest error 0 ulp", "largest error 1 ulp", "", False),
    )
    latency = (
        LatencyChange(case, target, "x=[2,3]", 10.0, 12.0, "slower", 1.2, 1.15, 1.25, 1.01),
        LatencyChange(case, target, "x=[2,3]", 12.0, 10.0, "faster", 0.8333, 0.8, 0.87, 1.01),
        LatencyChange(case, target, "x=[2,3]", 10.0, 10.5, "inconclusive", 1.05, 0.99, 1.11, 1.03, 40),
        LatencyChange(case, target, "x=[2,3]", 10.0, 9.0, "not comparable", 0.9, why="threads was 1 and is 2"),
        LatencyChange(case, target, "x=[2,3]", 10.0, 10.0, "no change", 1.0, 0.99, 1.01, 1.01),
    )
    versions, hardware = {"onnxruntime": ("1.0", "1.1")}, {"cpu.cores": ("2", "4")}
    texts = {
        "a_regression": Diff(versions, {}, parity, latency, min_effect=0.03),
        "no_regression": Diff({}, {}, (), latency[-1:], min_effect=0.03),
        "other_hardware": Diff(versions, hardware, (), None, min_effect=0.03),
        "no_common_figure": Diff({}, {}, (), (), min_effect=0.1),
    }
    shown = {name: printed(lambda console, one=one: show_diff(one, console), width=140) for name, one in texts.items()}  # type: ignore[misc]
    assert sections(**shown) == text_file


def test_text_of_audit(text_file: SnapshotAssertion) -> None:
    equivalent = "the slope is 1, so the layer is the identity"
    mutants = (("slope=0", True), ("slope=-1", True), ("bias+1", False), ("swapped", False), ("zeros", False))
    mixed = Audit(
        (
            *(MutantOutcome("leakyrelu/signed", "LeakyReLU", mutant, killed) for mutant, killed in mutants),
            *(MutantOutcome("leakyrelu/positive", "LeakyReLU", mutant, killed=False) for mutant, _ in mutants),
            MutantOutcome("leakyrelu/signed", "LeakyReLU", "slope=1", killed=False, why_equivalent=equivalent),
        ),
        {"net/whole": "it is no single layer", "net/part": "it is no single layer"},
    )
    texts = sections(
        survivors=audit_text(mixed),
        all_killed=audit_text(Audit((MutantOutcome("relu/signed", "ReLU", "identity", killed=True),))),
        nothing_audited=audit_text(Audit((), {"net/whole": "it is no single layer"})),
    )
    assert texts == text_file


def test_no_snapshot_is_named_like_a_test_file() -> None:
    """syrupy would take it for a file of that module, and would call it unused in a run of that module alone."""
    here = Path(__file__)
    snapshots = {path.stem for path in (here.parent / "__snapshots__" / here.stem).iterdir()}
    assert snapshots
    assert not snapshots & {path.stem for path in here.parent.glob("test_*.py")}
