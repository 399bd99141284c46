"""harness pack: the content of a bundle, and that a machine without torch gets the same results as the packing one."""

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
    """A folder with specs, their bundle, and the report of the host."""
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
    """A machine without torch; the bundle was copied to it and run there."""
    board = without_torch(tmp_path_factory.mktemp("board"))
    shutil.copytree(context / "bundle", board / "bundle")
    done = python(board, "-m", "harness", "run", "bundle", "--targets", "ort-cp*", "-j", "1", "--report-dir", "board")
    (board / "output").write_text(done.stdout + done.stderr, encoding="utf-8")
    (board / "code").write_text(str(done.returncode), encoding="utf-8")
    return board


def rows(report: Path) -> Rows:
    content = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return {(row["case"], row["target"]): row for row in content["results"]}


def manifest(context: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((context / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    return content


def test_the_board_has_the_same_results_as_the_host(context: Path, board: Path) -> None:
    """The checks have the same names and are equal in every field that does not depend on machine or time."""
    host, on_board = rows(context / "host"), rows(board / "board")
    assert host.keys() == on_board.keys()
    of_the_machine = {"latency", "seconds", "log", "notes", "reproduction", "artifact_path"}
    for check, row in host.items():
        keys = row.keys() - of_the_machine
        assert {key: on_board[check][key] for key in keys} == {key: row[key] for key in keys}
        assert (row["latency"] is None) == (on_board[check]["latency"] is None)
    assert not (board / "tried").exists(), "torch was imported: " + (board / "tried").read_text()


def test_every_kind_of_status_occurs(board: Path) -> None:
    status = {check: (row["status"], row["stage"], row["symptom"]) for check, row in rows(board / "board").items()}
    dynamo, script = (f"{export}/ort-cpu" for export in reversed(ONNX))
    assert status["kinds/linear", dynamo] == ("passed", None, None)
    assert status["kinds/divisor", dynamo] == ("known", "compare", "mismatch")
    assert status["kinds/index", dynamo] == ("known", "compare", "mismatch")
    assert status["kinds/unpool", script][:2] == ("known", "export")  # the message depends on the torch version
    assert status["kinds/unpool", dynamo] == ("passed", None, None)
    assert (board / "code").read_text() == "0"


def test_a_failed_export_is_reported_as_on_the_host(context: Path, board: Path) -> None:
    not_packed = {(case["id"], export) for case in manifest(context)["cases"] for export in case["not_packed"]}
    assert ("kinds/unpool", "onnx-torchscript@17") in not_packed
    assert len(not_packed) == json.loads((context / "packed.json").read_text(encoding="utf-8"))
    row = rows(board / "board")["kinds/unpool", "onnx-torchscript@17/ort-cpu"]
    assert any("this is the result of the machine that packed the case" in note for note in row["notes"])
    exports = {(case["id"], export) for case in manifest(context)["cases"] for export in case["exports"]}
    assert len(not_packed | exports) == len(not_packed) + len(exports) == 7 * 3, "an export is missing without a reason"


def test_a_passing_check_is_timed_on_the_board(board: Path) -> None:
    latency = rows(board / "board")["kinds/linear", "onnx-dynamo@23/ort-cpu"]["latency"]
    assert latency["median_us"] > 0
    assert latency["first_run_s"] > 0


def test_known_failures_of_packed_checks_are_packed(context: Path) -> None:
    text = (context / "bundle" / "known-failures.yaml").read_text(encoding="utf-8")
    assert "kinds/divisor" in text
    assert "other/*" not in text


def test_every_recorded_array_is_stored_once(context: Path) -> None:
    """The files also have the names that ONNX's backend tests require."""
    folder = context / "bundle"
    by_content: dict[bytes, set[int]] = {}
    for file in folder.rglob("*.pb"):
        by_content.setdefault(file.read_bytes(), set()).add(file.stat().st_ino)
    assert by_content
    assert all(len(inodes) == 1 for inodes in by_content.values())
    assert len(list(folder.glob("onnx/*/test_data_set_*/*.pb"))) > len(by_content) / 2


def test_host_and_board_can_be_merged_and_compared(context: Path, board: Path, harness: Call) -> None:
    """Merging shows both machines as columns. Comparing reports no change and ignores the other machine's latency."""
    host, on_board = context / "host" / "report.json", board / "board" / "report.json"
    report = json.loads(on_board.read_text(encoding="utf-8"))
    report["environment"]["board"] = "another machine than the one that packed"
    on_board.write_text(json.dumps(report), encoding="utf-8")
    merged = harness("merge", str(host), str(on_board))
    targets = {target for case, target in merged.rows if case == "kinds/divisor"}
    assert len({target.partition(" on ")[0] for target in targets}) == len(targets) / 2, targets
    compared = harness("diff", str(host), str(on_board), "--across-hardware")
    assert compared.code == 0, compared.out + compared.err


class Ort(onnx.backend.base.Backend):
    """ONNX Runtime as a backend of the tests that ONNX ships."""

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


class _PassCounter(unittest.TestResult):
    """Count the tests that passed; ``testsRun`` includes skipped tests only in some Python releases."""

    passed = 0

    def addSuccess(self, _test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        self.passed += 1


def test_the_backend_test_runner_of_onnx_runs_the_folders(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = onnx.backend.test.loader.load_model_tests
    tests = load(str(context / "bundle"), "onnx")
    assert {test.kind for test in tests} == {"onnx"}
    monkeypatch.setattr(
        onnx.backend.test.runner, "load_model_tests", lambda kind: tests if kind == "simple" else [], raising=True
    )
    outcome = _PassCounter()
    onnx.backend.test.runner.Runner(Ort, __name__).exclude("half").test_suite.run(outcome)
    assert not outcome.errors
    failed = {test.id() for test, _ in outcome.failures}
    assert len(failed) == 2, "the file without its divisor is wrong for every runner"
    assert all("divisor" in name for name in failed)
    assert outcome.passed + len(failed) == len([test for test in tests if "half" not in test.name])


def test_the_folders_run_as_recorded_models_too(context: Path, harness: Call) -> None:
    ran = harness("run", str(context / "bundle" / "onnx"), "--targets", "ort-cpu", "--no-latency", "-k", "linear")
    assert ran.code == 0, ran.out
    assert len(ran.rows) == 2
    assert {row["status"] for row in ran.rows.values()} == {"passed"}


def test_torchscript_files_are_verified_with_torch(context: Path, harness: Call) -> None:
    ran = harness(
        "run", str(context / "bundle"), "--targets", "trace/torch-cpu", "-k", "linear", "-k", "drop", "--no-latency"
    )
    assert ran.code == 0, ran.out
    assert {row["status"] for row in ran.rows.values()} == {"passed"}


def test_an_interrupted_pack_leaves_nothing(harness: Call, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "specs").mkdir()
    (here / "specs" / "kinds.yaml").write_text(SPEC, encoding="utf-8")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.packing._manifest", stop)
    ran = harness("pack", "specs", "-o", "bundle", "-k", "linear", "--targets", "trace/torch-cpu", "-j", "1")
    assert ran.code == 130
    assert {path.name for path in here.iterdir()} == {"specs", "cache"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["specs", "-o", "specs"], "-o specs: already exists; name a new folder or an empty one"),
        (["bundle", "-o", "again"], "is a recorded model already; copy it as it is, harness run needs no torch for it"),
        (["specs", "-o", "again", "--targets", "export/compile-cpu"], "a bundle holds TorchScript and ONNX files"),
        (["nowhere", "-o", "again"], "nowhere: no such file or directory; name a spec, or a folder of specs"),
    ],
)
def test_a_request_that_cannot_be_packed_is_refused_in_one_line(
    context: Path, harness: Call, here: Path, arguments: list[str], message: str
) -> None:
    (here / "specs").symlink_to(context / "specs")
    (here / "bundle").symlink_to(context / "bundle")
    ran = harness("pack", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (here / "again").exists()
