"""The replay: which changes are differences, which are only listed, and that each tree runs its harness."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.replay.__main__ import ARGUED, main, parser
from benchmarks.replay.argued import read_argued, split
from benchmarks.replay.compare import ABSENT, Difference, compare, rows_of
from benchmarks.replay.material import unseeded
from benchmarks.replay.recorded_models import make_recorded_models
from benchmarks.replay.trees import ReplayError, default_revision, is_new_since
from tests.recorded_models import one_node, record, relu

ROOT = Path(__file__).resolve().parent.parent

OUTPUT: dict[str, Any] = {
    "index": 0,
    "name": "y",
    "shape": [2, 3],
    "dtype": "float32",
    "tolerance": "exact",
    "max_abs": 0.5,
    "max_rel": "nan",
    "max_ulp": 7,
    "mismatched": 1,
    "of": 6,
    "worst": [0, 1],
    "least_rtol": "inf",
    "least_atol": 0.5,
    "problem": "1 of 6 values differs by more than the tolerance",
    "inconclusive": None,
}
ROW: dict[str, Any] = {
    "case": "relu/plain",
    "target": "trace/torch-cpu",
    "status": "failed",
    "stage": "compare",
    "symptom": "mismatch",
    "blame": "kernel",
    "message": "1 of 6 values differs by more than the tolerance",
    "outputs": [OUTPUT],
    "placement": {"asked": "A", "nodes": {"A": {"Relu": 1}}, "stray": []},
    "latency": {"median_us": 3.0},
    "seconds": {"run": 0.1},
    "log": ["one line"],
    "notes": [],
    "artifact": "abc",
    "checker": None,
    "evidence": ["the file is right"],
    "findings": [{"what": "shape", "passed": True, "message": "as expected", "comparison": dict(OUTPUT)}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The row with ``value`` at a dotted path; numbers in the path are positions."""
    row = copy.deepcopy(ROW)
    *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    inner: Any = row
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return row


def differences_between(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Difference]:
    """The differences between two reports of at most one row."""
    sides = [rows_of({"results": [] if row is None else [row]}) for row in (old, new)]
    return list(compare("specs", sides[0], sides[1]))


def test_a_report_equals_itself_also_where_a_number_is_not_finite() -> None:
    assert differences_between(ROW, json.loads(json.dumps(ROW))) == []
    assert differences_between(None, None) == []


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("status", "passed", "status"),
        ("stage", "run", "stage"),
        ("symptom", "crash", "symptom"),
        ("blame", "exporter", "blame"),
        ("blame", None, "blame"),
        ("outputs", [], "outputs"),
        ("outputs.0.index", 1, "outputs[].index"),
        ("outputs.0.index", False, "outputs[].index"),
        ("outputs.0.shape", [3, 2], "outputs[].shape[]"),
        ("outputs.0.dtype", "float64", "outputs[].dtype"),
        ("outputs.0.tolerance", "1 ulp", "outputs[].tolerance"),
        ("outputs.0.max_abs", 0.5000000000000001, "outputs[].max_abs"),
        ("outputs.0.max_abs", "nan", "outputs[].max_abs"),
        ("outputs.0.max_rel", 0.0, "outputs[].max_rel"),
        ("outputs.0.max_ulp", 8, "outputs[].max_ulp"),
        ("outputs.0.mismatched", 0, "outputs[].mismatched"),
        ("outputs.0.of", 7, "outputs[].of"),
        ("outputs.0.worst", None, "outputs[].worst"),
        ("outputs.0.least_rtol", "-inf", "outputs[].least_rtol"),
        ("outputs.0.least_atol", 0.6, "outputs[].least_atol"),
        ("outputs.0.problem", None, "outputs[].problem"),
        ("outputs.0.inconclusive", "an all-zero output would pass too", "outputs[].inconclusive"),
        ("outputs.0.name", "z", "outputs[].name"),
        ("placement", None, "placement"),
        ("placement.stray", ["Relu"], "placement.stray"),
        ("placement.nodes", {"B": {"Relu": 1}}, "placement.nodes.A"),
        ("checker", "the file is not valid", "checker"),
        ("evidence", [], "evidence"),
        ("findings.0.passed", False, "findings[].passed"),
        ("findings", [], "findings"),
        ("findings.0.comparison.tolerance", "1 ulp", "findings[].comparison.tolerance"),
    ],
)
def test_a_changed_result_is_a_difference(path: str, value: Any, field: str) -> None:
    for differences in (differences_between(ROW, changed(path, value)), differences_between(changed(path, value), ROW)):
        assert (differences[0].field, differences[0].kind) == (field, "result") or path == "placement.nodes"
        assert {difference.kind for difference in differences} == {"result"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("message", "1 of 6 values differ"),
        ("message", None),
        ("log", []),
        ("notes", ["a note"]),
        ("evidence", ["the file", "is right"]),
        ("outputs.0.problem", "1 of 6 values differ"),
        ("findings.0.message", "shape as expected"),
    ],
)
def test_a_changed_text_is_wording(path: str, value: Any) -> None:
    (difference,) = differences_between(ROW, changed(path, value))
    assert difference.kind == "wording"


def test_times_are_not_compared() -> None:
    assert (
        differences_between(ROW, changed("seconds.run", 9.0))
        == differences_between(ROW, changed("latency", None))
        == []
    )


def test_a_field_of_one_side_is_listed_unless_the_contract_names_it() -> None:
    renamed = {**ROW, "proof": ROW["evidence"]}
    del renamed["evidence"]
    assert [(each.field, each.kind) for each in differences_between(ROW, renamed)] == [
        ("evidence", "field"),
        ("proof", "field"),
    ]
    assert [each.kind for each in differences_between(ROW, changed("artifact", "def"))] == ["field"]
    for path, field in (("blame", "blame"), ("outputs.0.worst", "outputs[].worst")):
        lacking = copy.deepcopy(ROW)
        (lacking if "." not in path else lacking["outputs"][0]).pop(path.rpartition(".")[2])
        assert [(each.field, each.new, each.kind) for each in differences_between(ROW, lacking)] == [
            (field, ABSENT, "result")
        ]


def test_added_and_lost_rows_are_differences_and_repeated_rows_are_refused() -> None:
    assert [(each.field, each.new) for each in differences_between(ROW, None)] == [("row", ABSENT)]
    assert [(each.field, each.old) for each in differences_between(None, ROW)] == [("row", ABSENT)]
    with pytest.raises(ValueError, match="same case and target"):
        rows_of({"results": [ROW, ROW]})


# Argued differences


ENTRY = {"cases": "relu/*", "targets": "*", "field": "status", "why": "a reason"}


@pytest.fixture
def entries(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: Any) -> Path:
        path = tmp_path / "argued.yaml"
        path.write_text(yaml.safe_dump(list(entries)), encoding="utf-8")
        return path

    return write


def test_an_entry_argues_for_its_field_rows_and_values_only(entries: Callable[..., Path]) -> None:
    status, blame = differences_between(ROW, {**changed("status", "passed"), "blame": None})
    for entry, explained in (
        (ENTRY, True),
        (ENTRY | {"old": "failed", "new": "passed"}, True),
        (ENTRY | {"new": "known"}, False),
        (ENTRY | {"cases": "relu"}, False),
        (ENTRY | {"targets": "onnx-*"}, False),
    ):
        unargued, argued, unused = split([status, blame], read_argued(entries(entry)))
        assert (status not in unargued) is explained
        assert blame in unargued
        assert len(argued) == int(explained)
        assert len(unused) == int(not explained)


def test_brackets_of_a_case_stand_for_themselves(entries: Callable[..., Path]) -> None:
    row = {**ROW, "case": "relu/x[args.inplace=true]"}
    differences = differences_between(row, {**row, "status": "passed"})
    (entry,) = read_argued(entries(ENTRY | {"cases": "relu/*[args.inplace=true]"}))
    assert split(differences, [entry])[0] == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("text", "entry 1: not a mapping"),
        ({**ENTRY, "case": "x"}, "unknown key 'case'"),
        ({**ENTRY, "why": " "}, "why must be a text that is not empty"),
        ({"cases": "*"}, "targets must be a text"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(entries: Callable[..., Path], entry: Any, message: str) -> None:
    with pytest.raises(ReplayError, match=message) as refused:
        read_argued(entries(entry))
    assert "\n" not in str(refused.value)


# End to end


def git(repository: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small clone: this harness, with two recorded models instead of the specs so that torch is not loaded."""
    made = tmp_path / "clone"
    shutil.copytree(ROOT / "harness", made / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    relu(made / "specs" / "right")
    relu(made / "specs" / "wrong", np.array([[1.0, 5.0, 3.0]], np.float32))
    (made / "specs" / "targets.yaml").write_text("default: [file/ort-cpu]\n", encoding="utf-8")
    git(made, "init", "-q", "-b", "main")
    git(made, "add", "-A")
    git(made, "commit", "-q", "-m", "first")
    return made


def test_a_planted_difference_is_detected_and_can_be_argued(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Widen the tolerance for recorded models in the working tree only, so that the wrong model passes."""
    recorded = repository / "harness" / "spec" / "recorded.py"
    text = recorded.read_text(encoding="utf-8")
    assert "atol=1e-7" in text
    recorded.write_text(text.replace("atol=1e-7", "atol=9.0"), encoding="utf-8")
    entry = {"cases": "*", "targets": "*", "field": "[!x]*", "why": "brackets stand for themselves: matches nothing"}
    argued = repository / ARGUED / "1-planted.yaml"
    argued.parent.mkdir(parents=True)
    argued.write_text(yaml.safe_dump([entry]), encoding="utf-8")

    assert main(["--only", "specs", "--into", str(tmp_path / "out"), "--jobs", "1"], repository) == 1

    printed = capsys.readouterr().out
    assert "status: failed -> passed: 1 row, e.g. wrong on file/ort-cpu" in printed
    assert "exit_code: 1 -> 0" in printed
    assert "Matches no difference" in printed
    assert "Different: 2 of 2 rows, and 1 run." in printed
    written = json.loads((tmp_path / "out" / "replay.json").read_text(encoding="utf-8"))
    differing = {each["case"]: each for each in written["differences"] if each["field"] == "status"}
    assert (differing["wrong"]["old"], differing["wrong"]["new"]) == ("failed", "passed")
    assert {side: Path(path).parts[-3] for side, path in written["imported"].items()} == {"old": "old", "new": "new"}


def test_what_cannot_be_replayed_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-revision", "--into", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("replay: no commit 'no-such-revision' in this clone; name")
    git(tmp_path, "init", "-q", "-b", "work")
    with pytest.raises(ReplayError, match="no branch main to compare with; name a revision"):
        default_revision(tmp_path)


def test_without_a_revision_changes_are_compared_with_head_and_a_branch_with_its_merge_base(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    first = (tmp_path / ".git" / "refs" / "heads" / "main").read_text(encoding="utf-8").strip()
    git(tmp_path, "checkout", "-q", "-b", "work")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "second")
    assert default_revision(tmp_path) == first
    (tmp_path / "new").touch()
    assert default_revision(tmp_path) == "HEAD"


def test_only_argued_differences_that_come_with_the_change_are_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    files = [tmp_path / ARGUED / name for name in ("1-earlier.yaml", "2-now.yaml")]
    files[0].parent.mkdir(parents=True)
    files[0].touch()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    files[1].touch()
    assert [is_new_since(tmp_path, "HEAD", file) for file in files] == [False, True]


def test_recorded_models_are_the_same_each_time(tmp_path: Path) -> None:
    for side in ("one", "two"):
        make_recorded_models(tmp_path / side)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 75
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_models_that_draw_without_a_seed_are_detected(tmp_path: Path) -> None:
    """Outputs without a seed differ between runs; outputs with a seed do not."""
    for name, attributes in (("drawn", {}), ("seeded", {"seed": 1.0})):
        record(tmp_path / "node" / name, one_node("Bernoulli", **attributes), [], [])
    relu(tmp_path / "node" / "relu")
    assert unseeded(tmp_path) == ["node/drawn"]


def test_ci_calls_the_replay_as_it_can_be_called() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "replay.yml").read_text(encoding="utf-8"))
    (script,) = (step["run"] for step in workflow["jobs"]["replay"]["steps"] if step.get("name") == "Replay")
    python, module, name, *words = shlex.split(script)
    assert (python, module, name) == ("python", "-m", "benchmarks.replay")
    assert parser().parse_args(words).revision == "HEAD^1"
