"""harness pack: what a bundle holds, and that a machine without torch comes to the verdicts of the one that packed."""

from __future__ import annotations

import json
import shutil
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx.backend.base
import onnx.backend.test.loader
import onnx.backend.test.runner
import onnxruntime
import pytest

from harness.cli import main
from tests.bundles import ONNX, SPEC, packed
from tests.conftest import Call
from tests.without_torch import python, without_torch

Rows = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with specs, the bundle of them, and the host's own report."""
    folder = tmp_path_factory.mktemp("context")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        (folder / "packed.json").write_text(json.dumps(len(packed(folder).not_packed)), encoding="utf-8")
        targets = ",".join(f"{export}/ort-cpu" for export in ONNX)
        with pytest.raises(SystemExit):
            main(["run", "specs", "-k", "kinds/", "--targets", targets, "-j", "1", "--report-dir", "host"])
        yield folder


@pytest.fixture(scope="module")
def board(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine without torch, on which the bundle was copied and run."""
    board = without_torch(tmp_path_factory.mktemp("board"))
    shutil.copytree(context / "bundle", board / "bundle")
    done = python(board, "-m", "harness", "run", "bundle", "--targets", "ort-cp*", "-j", "1", "--report-dir", "board")
    (board / "said").write_text(done.stdout + done.stderr, encoding="utf-8")
    (board / "code").write_text(str(done.returncode), encoding="utf-8")
    return board


def rows(report: Path) -> Rows:
    told = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return {(row["case"], row["target"]): row for row in told["results"]}


def manifest(context: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((context / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    return told


def test_the_board_comes_to_what_the_host_came_to(context: Path, board: Path) -> None:
    """The same checks under the same names, alike in every field but what depends on the machine and the moment."""
    host, there = rows(context / "host"), rows(board / "board")
    assert host.keys() == there.keys()
    own = {"latency", "seconds", "log", "notes", "reproduction"}
    for check, row in host.items():
        assert {key: there[check][key] for key in row.keys() - own} == {key: row[key] for key in row.keys() - own}
        assert (row["latency"] is None) == (there[check]["latency"] is None)
    assert not (board / "tried").exists(), "somebody tried to import " + (board / "tried").read_text()


def test_every_kind_of_verdict_was_there(board: Path) -> None:
    there = {check: (row["status"], row["stage"], row["symptom"]) for check, row in rows(board / "board").items()}
    dynamo, script = (f"{export}/ort-cpu" for export in reversed(ONNX))
    assert there["kinds/linear", dynamo] == ("passed", None, None)
    assert there["kinds/divisor", dynamo] == ("known", "compare", "mismatch")
    assert there["kinds/index", dynamo] == ("known", "compare", "mismatch")
    assert there["kinds/unpool", script][:2] == ("known", "export")  # how it is refused depends on the torch
    assert there["kinds/unpool", dynamo] == ("passed", None, None)
    assert (board / "code").read_text() == "0"


def test_what_was_not_packed_is_told_as_it_is_on_the_host(context: Path, board: Path) -> None:
    told = {(case["id"], export) for case in manifest(context)["cases"] for export in case["not_packed"]}
    assert ("kinds/unpool", "onnx-torchscript@17") in told
    assert len(told) == json.loads((context / "packed.json").read_text(encoding="utf-8"))
    row = rows(board / "board")["kinds/unpool", "onnx-torchscript@17/ort-cpu"]
    assert any("told by the machine that packed it" in note for note in row["notes"])
    exports = {(case["id"], export) for case in manifest(context)["cases"] for export in case["exports"]}
    assert len(told | exports) == len(told) + len(exports) == 7 * 3, "less than was asked for, and nobody said so"


def test_a_passing_check_is_timed_on_the_board(board: Path) -> None:
    latency = rows(board / "board")["kinds/linear", "onnx-dynamo@23/ort-cpu"]["latency"]
    assert latency["median_us"] > 0
    assert latency["first_run_s"] > 0


def test_known_failures_travel_with_what_they_speak_of(context: Path) -> None:
    text = (context / "bundle" / "known-failures.yaml").read_text(encoding="utf-8")
    assert "kinds/divisor" in text
    assert "other/*" not in text


def test_every_recorded_value_is_kept_once(context: Path) -> None:
    """Also under the names that ONNX's backend tests ask for."""
    folder = context / "bundle"
    by_content: dict[bytes, set[int]] = {}
    for file in folder.rglob("*.pb"):
        by_content.setdefault(file.read_bytes(), set()).add(file.stat().st_ino)
    assert by_content
    assert all(len(inodes) == 1 for inodes in by_content.values())
    assert len(list(folder.glob("onnx/*/test_data_set_*/*.pb"))) > len(by_content) / 2


def test_host_and_board_stand_side_by_side(context: Path, board: Path, harness: Call) -> None:
    """As columns of one report; and as a comparison, which finds nothing changed and no latency of another machine."""
    host, there = context / "host" / "report.json", board / "board" / "report.json"
    told = json.loads(there.read_text(encoding="utf-8"))
    told["environment"]["board"] = "another machine than the one that packed"
    there.write_text(json.dumps(told), encoding="utf-8")
    merged = harness("merge", str(host), str(there))
    targets = {target for case, target in merged.rows if case == "kinds/divisor"}
    assert len({target.partition(" on ")[0] for target in targets}) == len(targets) / 2, targets
    compared = harness("diff", str(host), str(there), "--across-hardware")
    assert compared.code == 0, compared.out + compared.err


class Ort(onnx.backend.base.Backend):
    """ONNX Runtime as ONNX's own tests ask for it."""

    @classmethod
    def prepare(cls, model: Any, *_: Any, **__: Any) -> Any:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]

        class Prepared:
            def run(self, inputs: list[Any]) -> Any:
                return session.run(None, dict(zip(names, inputs, strict=True)))

        return Prepared()

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


class _Counted(unittest.TestResult):
    """Counts what passed: whether a skipped test was run, each release of Python answers otherwise."""

    passed = 0

    def addSuccess(self, _test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        self.passed += 1


def test_onnx_own_backend_test_runner_takes_the_folders(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = onnx.backend.test.loader.load_model_tests
    ours = load(str(context / "bundle"), "onnx")
    assert {test.kind for test in ours} == {"onnx"}
    monkeypatch.setattr(
        onnx.backend.test.runner, "load_model_tests", lambda kind: ours if kind == "simple" else [], raising=True
    )
    outcome = _Counted()
    onnx.backend.test.runner.Runner(Ort, __name__).exclude("half").test_suite.run(outcome)
    assert not outcome.errors
    failed = {test.id() for test, _ in outcome.failures}
    assert len(failed) == 2, "the file without its divisor is wrong, whoever looks"
    assert all("divisor" in name for name in failed)
    assert outcome.passed + len(failed) == len([test for test in ours if "half" not in test.name])


def test_the_folders_run_as_recorded_models_too(context: Path, harness: Call) -> None:
    ran = harness("run", str(context / "bundle" / "onnx"), "--targets", "ort-cpu", "--no-latency", "-k", "linear")
    assert ran.code == 0, ran.out
    assert len(ran.rows) == 2
    assert {row["status"] for row in ran.rows.values()} == {"passed"}


def test_torchscript_files_are_verified_where_there_is_torch(context: Path, harness: Call) -> None:
    ran = harness(
        "run", str(context / "bundle"), "--targets", "trace/torch-cpu", "-k", "linear", "-k", "drop", "--no-latency"
    )
    assert ran.code == 0, ran.out
    assert {row["status"] for row in ran.rows.values()} == {"passed"}


def test_a_bundle_is_there_whole_or_not_at_all(harness: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "specs").mkdir()
    (here / "specs" / "kinds.yaml").write_text(SPEC, encoding="utf-8")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.packing._manifest", stop)
    ran = harness("pack", "specs", "-o", "bundle", "-k", "linear", "--targets", "trace/torch-cpu", "-j", "1")
    assert ran.code == 130
    assert {path.name for path in here.iterdir()} == {"specs", "cache"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["specs", "-o", "specs"], "-o specs: is there already; name a folder that is not, or an empty one"),
        (["bundle", "-o", "again"], "is recorded already; copy it as it is, harness run takes it without torch"),
        (["specs", "-o", "again", "--targets", "export/compile-cpu"], "a bundle holds TorchScript and ONNX files"),
        (["nowhere", "-o", "again"], "nowhere: no such file or directory; name a spec, or a directory of specs"),
    ],
)
def test_what_cannot_be_packed_is_told_in_one_line(
    context: Path, harness: Call, here: Path, arguments: list[str], said: str
) -> None:
    (here / "specs").symlink_to(context / "specs")
    (here / "bundle").symlink_to(context / "bundle")
    ran = harness("pack", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (here / "again").exists()
