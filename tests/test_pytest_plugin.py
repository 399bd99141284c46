"""``pytest specs/``, as pytest users run it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

# A run of pytest inside this one forgets the modules that it loads; NumPy cannot be loaded twice.
import harness.pytest_plugin.items  # noqa: F401
from harness.engine.worker_slot import WorkerSlot

pytest_plugins = "pytester"

RELU = """\
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}}
  - {name: wrong, inputs: {x: {values: [1.0, -2.0]}}, expect: {outputs: [{values: [1.0, -2.0]}]}}
  - {name: sweep, matrix: {args.inplace: [true, false]}, inputs: {x: {values: [1.0, -2.0]}}}
"""
TARGETS = "default: [trace/torch-cpu, script/torch-cpu]\n"
KNOWN = """\
- {cases: relu/wrong, targets: trace/torch-cpu, stage: compare, symptom: mismatch, reason: We say so., issue: "#7"}
- {cases: relu/wrong, targets: script/torch-cpu, stage: export, symptom: unsupported, reason: Not so.}
- {cases: relu/signed, targets: script/torch-cpu, stage: compare, symptom: mismatch, reason: Long gone.}
- {cases: relu/sweep*, targets: "*", stage: compare, symptom: mismatch, when: torch<1, reason: Not here.}
"""
ROOT = Path(__file__).resolve().parent.parent
FAILURE_LINE = (
    "failed, compare: mismatch (blame: spec): *1 of 2 values differs by more than the tolerance; "
    "worst at [[]1]: 0, expected -2 (100 % off); allowed: no difference"
)
SELECTED = "specs/relu.yaml::signed[trace/torch-cpu]"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a spec of three cases, and two targets; pytest runs in this process."""
    # Load the plugin as an installed harness does, also where harness is not installed.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p harness.pytest_plugin")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    specs = pytester.mkdir("specs")
    (specs / "relu.yaml").write_text(RELU)
    (specs / "targets.yaml").write_text(TARGETS)
    monkeypatch.setenv("HARNESS_CACHE", str(pytester.path / "cache"))
    return pytester


def ids(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def test_pytest_loads_the_plugin_without_configuration() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"harness": "harness.pytest_plugin"}


def test_it_imports_nothing_in_a_project_without_specs() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import harness.pytest_plugin; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "['harness']\n"


# Collection


def test_every_check_has_a_unique_name(project: pytest.Pytester) -> None:
    assert ids(project.runpytest_inprocess("specs", "--collect-only", "-q")) == [
        f"specs/relu.yaml::{case}[{target}]"
        for case in ("signed", "wrong", "sweep[args.inplace=true]", "sweep[args.inplace=false]")
        for target in ("trace/torch-cpu", "script/torch-cpu")
    ]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([SELECTED], 1),
        (["specs/relu.yaml::sweep[args.inplace=true][script/torch-cpu]"], 1),
        (["specs/relu.yaml::sweep"], 4),
        (["specs", "-k", "sweep and script"], 2),
        (["specs", "--deselect", "specs/relu.yaml::wrong"], 6),
        (["specs", "--harness-targets", "trace/torch-cpu"], 4),
        (["specs", "-o", "harness_targets=trace/torch-cpu,onnx-dynamo@23/ort-cpu trace/torch-cpu"], 8),
    ],
)
def test_checks_are_selected_as_tests_are(project: pytest.Pytester, arguments: list[str], names: int) -> None:
    assert len(ids(project.runpytest_inprocess(*arguments, "--collect-only", "-q"))) == names


@pytest.mark.parametrize("text", ["services: {}\n", "ci:\n  harness: 1\n", "harness: yes please\n", "[broken", "\xff"])
def test_other_yaml_files_are_not_collected(project: pytest.Pytester, text: str) -> None:
    (project.path / "specs" / "relu.yaml").write_text(text, encoding="latin-1")
    assert project.runpytest_inprocess("specs", "--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("off", [["-o", "harness_collect=false"], ["-p", "no:harness.pytest_plugin"]])
def test_it_can_be_switched_off(project: pytest.Pytester, off: list[str]) -> None:
    project.makepyfile(test_own="def test_own(): pass")
    project.runpytest_inprocess(*off).assert_outcomes(passed=1)


def test_an_invalid_spec_is_reported_with_its_places(project: pytest.Pytester) -> None:
    (project.path / "specs" / "relu.yaml").write_text(RELU.replace("args.inplace", "args.inplaze"))
    result = project.runpytest_inprocess("specs")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["specs/relu.yaml:6:*did you mean*inplace?"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_factory_without_consent_fails_its_checks_and_no_other_file(project: pytest.Pytester) -> None:
    project.makepyfile(net="raise SystemExit('imported')", test_own="def test_own(): pass")
    (project.path / "specs" / "relu.yaml").write_text(RELU.replace("layer: ReLU", "factory: net:Net"))
    result = project.runpytest_inprocess("-k", "signed or own")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["specs/relu.yaml:2:*factory: net:Net would run code; pass --harness-allow-import*"])
    result.stdout.no_fnmatch_line("*Interrupted*")


def test_a_configuration_of_pytest_gives_consent_for_a_factory(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nharness_allow_import = true\n")
    (project.path / "net.py").write_text("from torch.nn import ReLU as Net\n")
    (project.path / "specs" / "relu.yaml").write_text(RELU.replace("layer: ReLU", "factory: net:Net"))
    project.runpytest_inprocess("-k", "signed and trace").assert_outcomes(passed=1)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(
    project: pytest.Pytester, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    result = project.runpytest_inprocess("specs", f"--harness-timeout={seconds}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"a number above 0 and of at most 1,000,000,000 is expected, not {seconds}"
    assert expected in " ".join((*result.errlines, capsys.readouterr().err))


def test_a_mistake_in_a_spec_without_consent_is_told_before_anything_runs(project: pytest.Pytester) -> None:
    spec = RELU.replace("layer: ReLU", "factory: net:Net").replace("expect:", "expected:")
    (project.path / "specs" / "relu.yaml").write_text(spec)
    result = project.runpytest_inprocess("specs")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*did you mean expect*"])


# Runs


def test_a_failure_has_its_numbers_its_place_and_the_next_step_and_junit_keeps_them(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess("specs", "--junit-xml", "out.xml")
    result.assert_outcomes(passed=6, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*relu/wrong on trace/torch-cpu*",
            FAILURE_LINE,
            "specs/relu.yaml:5:5: relu/wrong on trace/torch-cpu",
            "  harness explain relu/wrong --target trace/torch-cpu",
            "FAILED specs/relu.yaml::wrong[[]trace/torch-cpu] - failed, compare*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    suite = ET.parse(project.path / "out.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("8", "2", "0")
    (wrong,) = suite.iterfind("testcase[@name='wrong[trace/torch-cpu]']")
    properties = {each.get("name"): each.get("value") for each in wrong.iter("property")}
    assert (properties["case"], properties["status"], properties["max_abs"]) == ("relu/wrong", "failed", "2.0")
    assert "1 of 2 values differs by more than the tolerance" in (wrong.findtext("failure") or "")


def test_it_stops_at_the_first_failure_and_goes_on_from_there(project: pytest.Pytester) -> None:
    project.runpytest_inprocess("specs", "-x").assert_outcomes(passed=2, failed=1)
    again = project.runpytest_inprocess("specs", "--lf", "-v")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["specs/relu.yaml::wrong[[]trace/torch-cpu] FAILED*"])


def test_a_known_failure_is_a_strict_xfail_of_that_failure_alone(project: pytest.Pytester) -> None:
    (project.path / "specs" / "known-failures.yaml").write_text(KNOWN)
    result = project.runpytest_inprocess("specs", "-rxf")
    result.assert_outcomes(passed=5, xfailed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*XPASS(strict)*Long gone.",
            "failed, compare: mismatch*known to fail differently (export: unsupported*",
            "XFAIL specs/relu.yaml::wrong[[]trace/torch-cpu] - We say so. #7",
        ]
    )
    project.runpytest_inprocess("specs", "--runxfail").assert_outcomes(passed=6, failed=2)


def test_a_runtime_that_is_not_here_is_a_skip(project: pytest.Pytester) -> None:
    result = project.runpytest_inprocess(
        "specs", "-k", "signed", "--harness-targets", "onnx-dynamo@23/ort-coreml", "-rs"
    )
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*ort-coreml: *"])


def test_a_check_that_takes_too_long_is_ended(project: pytest.Pytester) -> None:
    (project.path / "slow.py").write_text("import time\n\ndef net():\n    time.sleep(600)\n")
    (project.path / "specs" / "slow.yaml").write_text(RELU.replace("layer: ReLU", "factory: slow:net"))
    options = ("--harness-allow-import", "--harness-timeout", "0.5", "-k", "signed and trace")
    result = project.runpytest_inprocess("specs/slow.yaml", *options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error, build: timeout: not done after 0.5 s*"])


MODULE = """\
import ctypes, time, torch

def crashes():
    ctypes.string_at(0)

def hangs():
    time.sleep(600)

def sound():
    return torch.nn.ReLU()
"""
CONTAINED = """\
harness: 1
defaults: {inputs: {x: {values: [1.0, -2.0]}}}
cases:
  - {name: crashes, factory: own:crashes}
  - {name: between, factory: own:sound}
  - {name: hangs, factory: own:hangs}
  - {name: after, layer: ReLU}
"""


@pytest.fixture
def hostile(project: pytest.Pytester) -> pytest.Pytester:
    """A project with one case that crashes and one that times out."""
    (project.path / "own.py").write_text(MODULE)
    (project.path / "specs" / "relu.yaml").write_text(CONTAINED)
    return project


ONE_TARGET = ("specs", "--harness-allow-import", "--harness-targets", "trace/torch-cpu")


def test_a_session_has_one_worker_and_leaves_nothing_of_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    created: list[WorkerSlot] = []
    closed: list[WorkerSlot] = []

    class Counted(WorkerSlot):
        def __init__(self, *arguments: Any) -> None:
            created.append(self)
            super().__init__(*arguments)

        def close(self) -> None:
            closed.append(self)
            super().close()

    monkeypatch.setattr("harness.engine.worker_slot.WorkerSlot", Counted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    project.runpytest_inprocess("specs").assert_outcomes(passed=6, failed=2)
    assert len(created) == 1
    assert created == closed
    assert not list(tmp_path.glob("harness-*"))


def test_a_cache_that_cannot_be_written_is_reported_in_one_line(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(project.makefile(".txt", "a file")))
    result = project.runpytest_inprocess(SELECTED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["cache *: Not a directory; set HARNESS_CACHE to a folder that can be written"])


def test_a_check_that_dies_takes_no_other_with_it(hostile: pytest.Pytester) -> None:
    result = hostile.runpytest_inprocess(*ONE_TARGET, "--harness-timeout", "2")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["error, build: crash: *", "error, build: timeout: not done after 2 s*"])


def test_a_test_that_is_ended_from_outside_leaves_its_worker_to_nobody(hostile: pytest.Pytester) -> None:
    hostile.makeconftest("""
        import signal
        import pytest

        def too_long(*_):
            raise TimeoutError("a plugin had enough")

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            signal.signal(signal.SIGALRM, too_long)
            signal.setitimer(signal.ITIMER_REAL, 1.0 if "hangs" in item.name else 0)
            try:
                return (yield)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    """)
    result = hostile.runpytest_inprocess(*ONE_TARGET, "-k", "hangs or after", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*TimeoutError: a plugin had enough", "PASSED *::after[[]trace/torch-cpu]"])


def test_it_runs_in_processes_of_xdist(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("specs", "-n", "1", "-p", "xdist")
    result.assert_outcomes(passed=6, failed=2)


def test_an_inconclusive_pass_fails_on_request(project: pytest.Pytester) -> None:
    spec = "harness: 1\nlayer: ReLU\ncases: [{name: empty, inputs: {x: {shape: [0, 3]}}}]\n"
    (project.path / "specs" / "relu.yaml").write_text(spec)
    options = ("specs", "--harness-targets", "trace/torch-cpu")
    assert project.runpytest_inprocess(*options).ret == 0
    strict = project.runpytest_inprocess(*options, "--harness-strict")
    assert strict.ret == 1
    strict.stdout.fnmatch_lines(["*the pass is inconclusive*no value was compared*", "*harness explain * --strict"])
