"""Which checks a run does, how much it prints, and where its defaults come from."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api import run as run_from_python
from harness.errors import UsageError
from harness.result import Report
from tests.conftest import Call

Write = Callable[[str, str], Path]
TRACE = ("--targets", "trace/torch-cpu", "--no-latency")
SPEC = """
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}}
  - {name: wrong, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [1, 2]}}
  - name: sizes
    matrix: {inputs.x.shape: [[2], [3]]}
  - {name: wrong-too, inputs: {x: {values: [1.0, -2.0]}}, expect: {range: [1, 2]}}
"""
KNOWN = """
- {cases: relu/wrong, targets: '*', stage: compare, symptom: mismatch, reason: the range is wrong}
- {cases: relu/wrong-too, targets: '*', stage: compare, symptom: mismatch, reason: the range is wrong}
"""


@pytest.fixture
def relu(spec: Write) -> Path:
    return spec("relu.yaml", SPEC)


def cases(report: dict[str, list[dict[str, str]]]) -> list[str]:
    return [row["case"].removeprefix("relu/") for row in report["results"]]


# FILE::CASE


@pytest.mark.parametrize(
    ("paths", "selected"),
    [
        (["specs/relu.yaml::signed"], ["relu/signed"]),
        (["specs/relu.yaml::sizes"], ["relu/sizes[inputs.x.shape=[2]]", "relu/sizes[inputs.x.shape=[3]]"]),
        (["specs/relu.yaml::sizes[inputs.x.shape=[3]]"], ["relu/sizes[inputs.x.shape=[3]]"]),
        (["specs/relu.yaml::signed", "specs/relu.yaml::wrong"], ["relu/signed", "relu/wrong"]),
    ],
)
def test_a_case_of_a_file_is_named_as_pytest_does(
    harness: Call, relu: Path, paths: list[str], selected: list[str]
) -> None:
    assert [case["id"] for case in json.loads(harness("list", *paths, "--json").out)["cases"]] == selected


@pytest.mark.parametrize("paths", [["specs", "specs/relu.yaml::wrong"], ["specs/relu.yaml::wrong", "specs/relu.yaml"]])
def test_a_file_that_is_given_whole_as_well_has_all_cases(harness: Call, relu: Path, paths: list[str]) -> None:
    assert len(json.loads(harness("list", *paths, "--json").out)["cases"]) == 5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("specs/relu.yaml::sined", "specs/relu.yaml::sined: no such case; did you mean signed?"),
        (
            "specs/relu.yaml::other",
            "specs/relu.yaml::other: no such case; its cases are signed, wrong, sizes, wrong-too",
        ),
        ("specs::signed", "specs::signed: a case is one of a file; write specs/FILE.yaml::signed, or use -k signed"),
        ("nowhere.yaml::a", "nowhere.yaml: no such file or directory; name a spec, or a folder of specs"),
    ],
)
def test_a_case_that_there_is_not_is_a_wrong_request(harness: Call, relu: Path, path: str, message: str) -> None:
    ran = harness("run", path)
    assert (ran.code, ran.err) == (2, f"{message}\n")


# --json and --dry-run


def test_list_json_has_the_cases_with_their_targets(harness: Call, relu: Path) -> None:
    listed = json.loads(harness("list", "specs", "-k", "signed", "--targets", "trace/torch-cpu", "--json").out)
    (case,) = listed["cases"]
    assert case == {
        "id": "relu/signed",
        "about": None,
        "where": "specs/relu.yaml:5:5",
        "samples": 0,
        "targets": ["trace/torch-cpu"],
    }
    assert listed["checks"] == 1


def test_a_dry_run_lists_the_checks_and_runs_none(harness: Call, relu: Path, here: Path) -> None:
    ran = harness("run", "specs", "-k", "signed", "-k", "sizes", *TRACE, "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "relu/signed on trace/torch-cpu",
        "relu/sizes[inputs.x.shape=[2]] on trace/torch-cpu",
        "relu/sizes[inputs.x.shape=[3]] on trace/torch-cpu",
        "3 checks, none run (--dry-run)",
    ]
    assert not (here / "reports").exists()
    assert harness("run", "specs", "-k", "nothing", "--dry-run").code == 2


# --maxfail and --lf


def test_a_run_stops_at_the_first_failure_and_says_what_is_left(harness: Call, relu: Path) -> None:
    ran = harness("run", "specs", *TRACE, "-x", "-j", "1")
    assert ran.code == 1
    assert cases(ran.report) == ["signed", "wrong"]
    assert ran.report["run"]["not_run"] == 3
    assert ran.out.splitlines()[-1] == (
        "Not as expected: 1 of 2 checks (1 passed, 1 failed). Stopped by --maxfail: 3 checks not run."
    )
    resumed = harness("run", "specs", *TRACE, "-j", "1", "--resume")
    assert len(cases(resumed.report)) == 5, "the rest is done, and nothing twice"
    assert "not_run" not in resumed.report["run"]


def test_as_many_failures_as_allowed_do_not_stop_a_run_and_known_ones_never_do(
    harness: Call, relu: Path, here: Path
) -> None:
    assert len(cases(harness("run", "specs", *TRACE, "--maxfail", "3", "-j", "1").report)) == 5
    (here / "specs" / "known-failures.yaml").write_text(KNOWN, encoding="utf-8")
    ran = harness("run", "specs", *TRACE, "-x", "-j", "1")
    assert (ran.code, len(cases(ran.report))) == (0, 5)


def test_the_last_failures_run_again_and_nothing_else(harness: Call, relu: Path) -> None:
    without = harness("run", "specs", *TRACE, "--lf")
    assert (without.code, "--lf: reports/latest/report.json: no such file; run once" in without.err) == (2, True)
    harness("run", "specs", *TRACE)
    assert cases(harness("run", "specs", *TRACE, "--lf").report) == ["wrong", "wrong-too"]
    gone = harness("run", "specs", *TRACE, "--lf", "-k", "signed")
    assert gone.code == 2
    assert "--lf: none of the 2 checks that failed is among these" in gone.err
    relu.write_text(SPEC.replace("[1, 2]}", "[0, 2]}"), encoding="utf-8")
    assert harness("run", "specs", *TRACE, "--lf").code == 0
    everything = harness("run", "specs", *TRACE, "--lf")
    assert len(cases(everything.report)) == 5
    assert "--lf: nothing failed in reports/latest/report.json; running all checks" in everything.err


# What is printed


def test_last_failures_on_other_targets_are_found_with_the_same_targets(harness: Call, relu: Path) -> None:
    assert harness("run", "specs", *TRACE, "-k", "signed", "-k", "wrong").code == 1
    other = harness("run", "specs", "--targets", "script/torch-cpu", "--no-latency", "--lf")
    assert other.code == 2
    words = "--lf: none of the 2 checks that failed is among these; "
    assert other.err == f"{words}give the same --targets, such as trace/torch-cpu, or run without --lf\n"
    other = harness("run", "specs", *TRACE, "-k", "signed", "--lf")
    assert other.err == f"{words}name the same specs, or run without --lf\n"


def test_a_keyword_that_matches_nothing_is_named_where_others_match(harness: Call, relu: Path, here: Path) -> None:
    told = "-k nix: matches no case; harness list shows the ids\n"
    for words in (("run", *TRACE), ("run", "--dry-run"), ("run", *TRACE, "-q"), ("list",), ("audit",)):
        ran = harness(*words, "specs", "-k", "signed", "-k", "nix")
        assert ran.err == told, words
        assert told not in ran.out
    ran = harness("pack", "specs", "-k", "nix", "-k", "signed", "--targets", "trace/torch-cpu", "-o", "bundle")
    assert told in ran.err
    assert harness("run", "specs", "-k", "signed", *TRACE).err == ""


def test_an_effect_without_a_baseline_is_refused_where_it_was_typed(harness: Call, relu: Path, here: Path) -> None:
    for value in ("0.1", "0.03"):
        ran = harness("run", "specs", *TRACE, "--min-effect", value)
        message = f"--min-effect {value}: there is nothing to compare with; give --baseline REPORT.json\n"
        assert (ran.code, ran.err) == (2, message)
    (here / "pyproject.toml").write_text("[tool.harness]\nmin-effect = 0.1\n", encoding="utf-8")
    assert harness("run", "specs", *TRACE, "-k", "signed").code == 0, "a file sets it for all runs"
    with pytest.raises(UsageError, match=r"^min_effect 0\.1: there is nothing to compare with; give baseline"):
        run_from_python(relu, min_effect=0.1)


def test_quiet_prints_what_is_unexpected_and_the_verdict(harness: Call, relu: Path) -> None:
    ran = harness("run", "specs/relu.yaml::signed", *TRACE, "-q")
    assert (ran.out, ran.err) == ("All as expected: 1 check (1 passed).\n", "")
    ran = harness("run", "specs", *TRACE, "-q")
    lines = ran.out.splitlines()
    assert [line for line in lines if line.startswith("FAILED")]
    assert lines[-1].startswith("Not as expected: 2 of 5 checks")
    assert not any(line.startswith(("target", "Written", "trace/")) for line in lines)


def test_verbose_prints_each_check_and_progress_goes_to_standard_error(harness: Call, relu: Path) -> None:
    ran = harness("run", "specs", *TRACE, "-v", "-k", "signed", "-k", "relu/wrong")
    assert sorted(line.partition(" (")[0] for line in ran.err.splitlines()) == [
        "failed relu/wrong on trace/torch-cpu",
        "failed relu/wrong-too on trace/torch-cpu",
        "passed relu/signed on trace/torch-cpu",
    ]
    ran = harness("run", "specs", *TRACE, "-k", "signed")
    assert ran.raw_err == "1 of 1 checks\n"
    assert "1 of 1 checks\n" not in ran.out


def test_open_shows_the_page(harness: Call, relu: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def no_browser(uri: str) -> bool:
        opened.append(uri)
        return False

    monkeypatch.setattr(webbrowser, "open", no_browser)
    words = ("run", "specs/relu.yaml::signed", *TRACE, "--open")
    ran = harness(*words)
    assert opened == [(here / "reports/latest/report.html").as_uri()]
    assert "--open: no browser starts here; the page is reports/latest/report.html" in ran.err
    refused = harness(*words, "--format", "json")
    assert (refused.code, refused.err) == (2, "--open needs the page; add html to --format\n")


# Words that name nothing


@pytest.mark.parametrize("option", ["--targets", "--format", "--require"])
@pytest.mark.parametrize("value", ["", " ", ","])
def test_a_list_without_a_word_is_a_wrong_request(harness: Call, relu: Path, option: str, value: str) -> None:
    ran = harness("run", "specs", option, value)
    assert ran.code == 2
    assert f"'{option}': it names nothing; name one, or leave the option out" in ran.err


@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run"), ("list",)])
def test_an_opset_that_onnx_does_not_know_is_refused_before_anything_runs(
    harness: Call, relu: Path, command: tuple[str, ...]
) -> None:
    ran = harness(command[0], "specs", *command[1:], "--targets", "onnx-dynamo@99/ort-cpu")
    assert ran.code == 2
    assert "onnx-dynamo@99/ort-cpu: onnx " in ran.err
    assert "knows opsets up to" in ran.err
    without_runtime = harness(command[0], "specs", *command[1:], "--targets", "onnx-dynamo@99")
    assert without_runtime.code == 2
    assert "a target has a runtime, such as onnx-dynamo@99/ort-cpu" in without_runtime.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runn"], "harness: no such command 'runn'; did you mean run?; see harness --help"),
        (["xyz"], "harness: no such command 'xyz'; see harness --help"),
        (
            ["run", "--latncy"],
            "harness run: no such option '--latncy'; did you mean --latency?; see harness run --help",
        ),
        (["run", "--xyz"], "harness run: no such option '--xyz'; see harness run --help"),
        (["known-failures", "add"], "harness known-failures: no such command 'add'; see harness known-failures --help"),
    ],
)
def test_a_name_is_suggested_only_where_it_is_near(harness: Call, words: list[str], message: str) -> None:
    ran = harness(*words)
    assert (ran.code, ran.err) == (2, f"{message}\n")


def test_a_format_of_a_plugin_is_one_as_any_other(
    harness: Call, relu: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted:
        name, suffix = "counted", ".txt"

        def render(self, report: Report) -> str:
            return f"{len(report.results)} checks\n"

    from harness import registry, report

    with_plugin = {**registry.plugins("report"), "counted": Counted()}
    monkeypatch.setattr(report, "plugins", lambda _kind: with_plugin)
    ran = harness("run", "specs/relu.yaml::signed", *TRACE, "--format", "json,counted")
    assert ran.code == 0
    assert (here / "reports/latest/report.txt").read_text(encoding="utf-8") == "1 checks\n"
    assert harness("merge", "reports/latest/report.json", "-o", "whole", "--format", "counted").code == 0
    assert harness("merge", "reports/latest/report.json", "-o", "whole", "--format", "countd").code == 2


def test_help_is_what_dash_dash_help_shows(harness: Call) -> None:
    for words in ([], ["run"], ["known-failures", "update"]):
        assert harness("help", *words).out == harness(*words, "--help").out
    assert harness("help", "runn").code == 2


# pyproject.toml


def test_defaults_come_from_pyproject_and_the_command_line_overrides_them(
    harness: Call, relu: Path, here: Path
) -> None:
    (here / "pyproject.toml").write_text(
        "[project]\nname = 'net'\n[tool.harness]\ntargets = ['trace/torch-cpu']\nkeywords = 'signed'\n"
        "[tool.harness.run]\npaths = ['specs/']\nlatency = false\nformat = ['json', 'csv']\n",
        encoding="utf-8",
    )
    ran = harness("run")
    assert (ran.code, list(ran.rows)) == (0, [("relu/signed", "trace/torch-cpu")])
    assert ran.only["latency"] is None
    assert sorted(path.name for path in (here / "reports/latest").iterdir()) == ["report.csv", "report.json"]
    assert harness("list", "specs").out.endswith("\n1 case x 1 target = 1 check\n")
    assert len(json.loads(harness("list", "specs", "--keywords", "sizes", "--json").out)["cases"]) == 2


def test_every_mistake_in_pyproject_is_told_with_its_line(harness: Call, relu: Path, here: Path) -> None:
    (here / "pyproject.toml").write_text(
        "[tool.harness]\ntragets = 'x'\nallow-import = true\nqqq = 1\n[tool.harness.run]\njobs = 'many'\n"
        "latency = 'no'\nlf = true\n[tool.harness.rnu]\njobs = 1\n"
        "[tool.harness.bench]\ntargets = 3\ntimeout = -1\nmemory = 4000000000\nbudget = inf\nmin-effect = nan\n",
        encoding="utf-8",
    )
    ran = harness("check", "specs")
    assert ran.code == 2
    at_most = "a number of at most 1,000,000,000 is expected"
    assert ran.err.splitlines() == [
        "pyproject.toml:2:1: tragets: there is no such option; did you mean targets?",
        "pyproject.toml:3:1: allow-import: not taken from a file; it is consent to run code; use the command line",
        "pyproject.toml:4:1: qqq: there is no such option; see harness COMMAND --help",
        "pyproject.toml:6:1: jobs: a whole number of at least 1 is expected, not many; see harness run --help",
        "pyproject.toml:7:1: latency: true or false is expected; see harness run --help",
        "pyproject.toml:8:1: lf: not taken from a file; it is about one call; use the command line",
        "pyproject.toml:9:1: rnu: no such command; did you mean run?",
        "pyproject.toml:12:1: targets: a text or a list of texts is expected; see harness bench --help",
        "pyproject.toml:13:1: timeout: a number above 0 is expected, not -1; see harness bench --help",
        f"pyproject.toml:15:1: budget: {at_most}, not inf; see harness bench --help",
        f"pyproject.toml:16:1: min-effect: {at_most}, not nan; see harness bench --help",
    ]


def test_a_project_without_the_table_and_one_that_is_broken_elsewhere_change_nothing(
    harness: Call, relu: Path, here: Path
) -> None:
    (here / "pyproject.toml").write_text("[tool.other\nbroken", encoding="utf-8")
    assert harness("check", "specs").code == 0
    for other in ("[tool.harness-x]\npaths = 1\n", '[tool.other]\nx = """\n[tool.harness]\n"""\n'):
        (here / "pyproject.toml").write_text(other, encoding="utf-8")
        assert harness("check", "specs").code == 0
    (here / "pyproject.toml").write_text("[project.scripts]\nharness = 'a:b'\n[tool.other\nbroken", encoding="utf-8")
    assert harness("check", "specs").code == 0
    (here / "pyproject.toml").write_text("[tool.harness]\nbroken\n\n", encoding="utf-8")
    ran = harness("check", "specs")
    assert ran.code == 2
    assert ran.err.startswith("pyproject.toml:2:7: not TOML: ")


@pytest.mark.parametrize("table", ["tool.harness.{}\n", "[tool]\nharness = {{{}}}\n", "[tool]\nharness.{}\n"])
def test_the_table_of_defaults_counts_however_toml_writes_it(harness: Call, relu: Path, here: Path, table: str) -> None:
    (here / "pyproject.toml").write_text(table.format("paths = 'specs'"), encoding="utf-8")
    assert harness("list").code == 0, "its path is listed"
    (here / "pyproject.toml").write_text("[tool]\nharness = 3\n", encoding="utf-8")
    ran = harness("list", "specs")
    assert ran.err == "pyproject.toml:2:1: tool.harness: a table is expected, not 3; write [tool.harness]\n"
