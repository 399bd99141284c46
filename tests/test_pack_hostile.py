"""A bundle that differs from what was packed is refused before anything runs: one line, exit code 2."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from harness.spec.bundle.reader import manifest_seal
from tests.bundles import packed
from tests.conftest import Call
from tests.recorded_models import stored_outside


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        packed(folder)
    return folder / "bundle"


@pytest.fixture
def bundle(sound: Path, here: Path) -> Path:
    """A copy of the bundle that a test may change."""
    shutil.copytree(sound, here / "bundle")
    return here / "bundle"


def manifest(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return content


def reseal(bundle: Path, content: dict[str, Any]) -> None:
    """Write the manifest with a matching seal."""
    (bundle / "manifest.json").write_text(json.dumps({**content, "seal": manifest_seal(content)}), encoding="utf-8")


def model(bundle: Path) -> Path:
    return next(path for path in sorted(bundle.glob("onnx/*/model.onnx")) if "linear" in str(path))


def recorded(bundle: Path) -> Path:
    return min(bundle.glob("data/*.pb"))


def flip_a_bit(bundle: Path) -> None:
    data = bytearray(model(bundle).read_bytes())
    data[-1] ^= 1
    model(bundle).write_bytes(data)


def change_an_output(bundle: Path) -> None:
    recorded(bundle).write_bytes(recorded(bundle).read_bytes()[:-1] + b"\x01")


def remove_a_file(bundle: Path) -> None:
    recorded(bundle).unlink()


def remove_the_models(bundle: Path) -> None:
    shutil.rmtree(bundle / "onnx")


def add_a_file(bundle: Path) -> None:
    (model(bundle).parent / "more.bin").write_bytes(b"")


def add_at_the_top(name: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(b"raise ImportError\n")

    return damage


def link_reports(bundle: Path) -> None:
    (bundle / "reports").symlink_to(bundle.parent)


def cut_the_manifest(bundle: Path) -> None:
    data = (bundle / "manifest.json").read_bytes()
    (bundle / "manifest.json").write_bytes(data[: len(data) // 2])


def loosen_a_tolerance(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text(encoding="utf-8")
    changed = re.sub(r'"scaled": [0-9.]+', '"scaled": 1e9', text, count=1)
    assert changed != text
    (bundle / "manifest.json").write_text(changed, encoding="utf-8")


def empty_the_known_failures(bundle: Path) -> None:
    (bundle / "known-failures.yaml").write_text("[]\n", encoding="utf-8")


def use_a_newer_format(bundle: Path) -> None:
    reseal(bundle, {**manifest(bundle), "format": 2, "much": "that is new"})


def write_another_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("[]", encoding="utf-8")


def link_a_file(bundle: Path) -> None:
    data, outside = recorded(bundle), bundle.parent / "outside.pb"
    shutil.copy(data, outside)
    data.unlink()
    data.symlink_to(outside)


def link_a_folder(bundle: Path) -> None:
    shutil.move(bundle / "data", bundle.parent / "elsewhere")
    (bundle / "data").symlink_to(bundle.parent / "elsewhere")


def link_in_a_circle(bundle: Path) -> None:
    recorded(bundle).unlink()
    (bundle / "data" / "x").symlink_to("x")


def use_the_path(path: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        content = manifest(bundle)
        shutil.copy(model(bundle), bundle.parent / "model.onnx")
        original = model(bundle).relative_to(bundle).as_posix()
        text = json.dumps(content).replace(json.dumps(original), json.dumps(path))
        assert text != json.dumps(content)
        reseal(bundle, json.loads(text))

    return damage


def keep_data_outside(location: str) -> Callable[[Path], None]:
    """The model's weights in a file outside the bundle, with every checksum updated."""

    def damage(bundle: Path) -> None:
        (bundle.parent / "weights.bin").write_bytes(bytes(12))
        file = model(bundle)
        changed = onnx.load(file)
        changed.graph.initializer.append(stored_outside(location.format(outside=bundle.parent)))
        file.unlink()
        file.write_bytes(changed.SerializeToString())
        content, name = manifest(bundle), file.relative_to(bundle).as_posix()
        from harness.spec.bundle.reader import sha256_of

        content["files"][name] = sha256_of(file)
        reseal(bundle, content)

    return damage


def repeat_a_case(bundle: Path) -> None:
    content = manifest(bundle)
    reseal(bundle, {**content, "cases": [*content["cases"], content["cases"][0]]})


def remove_an_export(bundle: Path) -> None:
    content = manifest(bundle)
    del content["cases"][0]["exports"]["onnx-dynamo@23"]
    reseal(bundle, content)


def rename_an_input(bundle: Path) -> None:
    content = manifest(bundle)
    content["cases"][0]["inputs"][0]["label"] = "other"
    reseal(bundle, content)


def change_an_input(**changes: Any) -> Callable[[Path], None]:
    """Change the entry of an input of the first case."""

    def damage(bundle: Path) -> None:
        content = manifest(bundle)
        content["cases"][0]["inputs"][0] |= changes
        reseal(bundle, content)

    return damage


def expect_a_shape(shape: list[int]) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        content = manifest(bundle)
        content["cases"][0]["expect"]["shape"] = [shape]
        reseal(bundle, content)

    return damage


def sample_a_shape(shape: list[int]) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        content = manifest(bundle)
        content["cases"][0]["rounds"][0]["sample"] = {"every": 1, "shapes": [shape]}
        reseal(bundle, content)

    return damage


def change_a_result(**changes: Any) -> Callable[[Path], None]:
    """Change the result of an export without a file."""

    def damage(bundle: Path) -> None:
        content = manifest(bundle)
        case = next(case for case in content["cases"] if case["not_packed"])
        first = next(iter(case["not_packed"]))
        case["not_packed"][first] |= changes
        reseal(bundle, content)

    return damage


def write(text: bytes) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        (bundle / "manifest.json").write_bytes(text)

    return damage


def link_the_manifest(to: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        (bundle / "manifest.json").unlink()
        (bundle / "manifest.json").symlink_to(to)

    return damage


def make_the_manifest_a_pipe(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "is not the file that was packed: its SHA-256 differs"),
        (change_an_output, "is not the file that was packed: its SHA-256 differs"),
        (remove_a_file, "is in the manifest, but missing"),
        (remove_the_models, "is in the manifest, but missing (and"),
        (add_a_file, "is in the bundle, but not in its manifest"),
        (add_at_the_top("numpy.py"), "numpy.py:1:1: is in the bundle, but not in its manifest; remove it"),
        (add_at_the_top("torch/__init__.py"), "torch:1:1: is in the bundle, but not in its manifest; remove it"),
        (add_at_the_top("x-1.0.dist-info/METADATA"), "x-1.0.dist-info:1:1: is in the bundle, but not in its manifest"),
        (link_reports, "reports:1:1: is in the bundle, but not in its manifest"),
        (cut_the_manifest, "the manifest is truncated or broken"),
        (loosen_a_tolerance, "it was changed after it was packed: its seal does not match"),
        (empty_the_known_failures, "is not the file that was packed: its SHA-256 differs"),
        (use_a_newer_format, "this bundle is of format 2; this harness reads format 1; update it"),
        (write_another_json, "this is not the manifest of a bundle"),
        (link_a_file, "a link, which may point outside the bundle"),
        (link_a_folder, "a link, which may point outside the bundle"),
        (link_in_a_circle, "is in the manifest, but missing"),
        (use_the_path("../model.onnx"), "points outside the bundle"),
        (use_the_path("onnx/../../model.onnx"), "points outside the bundle"),
        (use_the_path("/etc/hostname"), "points outside the bundle"),
        (use_the_path("C:\\model.onnx"), "points outside the bundle"),
        (keep_data_outside("../../../weights.bin"), "outside the folder"),
        (keep_data_outside("{outside}/weights.bin"), "outside the folder"),
        (repeat_a_case, "appears twice"),
        (change_a_result(status="fine"), "status: Input should be 'passed'"),
        (change_a_result(seconds={"build": "long"}), "seconds.build: Input should be a valid number"),
        (change_a_result(latency={"median_us": "quick"}), "a check that was never run has no latency"),
        (write(b'{"format": ' + b"9" * 5000 + b"}"), "this is not readable JSON"),
        (write(b"[" * 100_000), "this is not readable JSON"),
        (change_an_input(shape=[2**20, 2**20]), "at most 268435456 (2^28) per tensor"),
        (change_an_input(shape=[1] * 17), "should have at most 16 items"),
        (change_an_input(shape=[-1]), "greater than or equal to 0"),
        (change_an_input(shape=[2**20] * 16), "at most 268435456 (2^28) per tensor"),
        (change_an_input(dtype="U1000000000"), "Input should be 'float32'"),
        (change_an_input(dtype="object"), "Input should be 'float32'"),
        (change_an_input(fill={"kind": "integers", "parameters": [9, 0]}), "this fill cannot produce an input"),
        (change_an_input(fill={"kind": "uniform", "parameters": []}), "this fill cannot produce an input"),
        (change_an_input(fill={"kind": "choice", "parameters": []}), "this fill cannot produce an input"),
        (change_an_input(fill={"kind": "full", "parameters": []}), "full without a number"),
        (expect_a_shape([1] * 17), "should have at most 16 items"),
        (sample_a_shape([1] * 65), "should have at most 64 items"),
        (link_the_manifest("/dev/zero"), "this is not a file"),
        (link_the_manifest("nowhere"), "this is not a file"),
        (make_the_manifest_a_pipe, "this is not a file"),
        (rename_an_input, "not all of its inputs are recorded"),
        (remove_an_export, "its export onnx-dynamo@23 is missing"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_line(
    bundle: Path, harness: Call, damage: Callable[[Path], None], message: str
) -> None:
    damage(bundle)
    ran = harness("run", "bundle", "--targets", "ort-cpu")
    assert ran.code == 2, ran.out
    assert message in ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err
    assert not ran.report


def test_a_stored_result_of_another_case_is_reported_for_its_own_case(bundle: Path, harness: Call) -> None:
    change_a_result(case="another/case")(bundle)
    ran = harness("run", "bundle", "--no-latency", "--targets", "trace/torch-cpu,ort-cpu")
    assert ran.code in {0, 1}
    assert not any(case.startswith("another") for case, _ in ran.rows)


def test_an_undamaged_bundle_runs(bundle: Path, harness: Call) -> None:
    """The bundle also runs in another folder, with copies instead of links."""
    ran = harness("run", "bundle", "--targets", "ort-cpu", "--no-latency", "-k", "linear")
    assert ran.code == 0, ran.out + ran.err
    assert len(ran.rows) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bundle", "spec.yaml"], "a bundle has its own targets; run it separately"),
        (["bundle", "--targets", "onnx-dynamo@18/ort-cpu"], "the bundle has no export onnx-dynamo@18"),
        (["bundle", "--targets", "ort-cqu"], "no target set named"),
    ],
)
def test_a_wrong_request_for_a_bundle_is_refused(
    bundle: Path, harness: Call, arguments: list[str], message: str
) -> None:
    ran = harness("run", *arguments)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("command", ["list", "check"])
def test_a_bundle_is_listed_and_checked(bundle: Path, harness: Call, command: str) -> None:
    ran = harness(command, "bundle")
    assert ran.code == 0, ran.err
    assert "7 cases" in ran.out


def test_a_run_in_the_bundle_writes_its_reports_there(
    bundle: Path, harness: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle can be run repeatedly; hidden files of a file manager or git are ignored."""
    monkeypatch.chdir(bundle)
    (bundle / ".gitattributes").write_text("*.onnx binary\n", encoding="utf-8")
    run = ("run", ".", "--targets", "onnx-torchscript@17/ort-cpu", "--no-latency", "-k", "linear")
    assert harness(*run).code == 0
    assert harness(*run, "--report-dir", "mine").code == 0
    assert harness(*run).code == 0


def test_a_bundle_of_an_earlier_release_is_read(harness: Call, bundle: Path) -> None:
    text = json.dumps(manifest(bundle))
    assert '"float64_reference": {' in text
    old = text.replace('"float64_reference": {', '"oracle": {').replace(
        '"what": "float64_reference"', '"what": "oracle"'
    )
    reseal(bundle, json.loads(old.replace('"inconclusive": ', '"blind": ')))
    ran = harness("run", "bundle", "--no-latency", "-k", "linear")
    assert ran.code == 0, ran.err
    findings = [finding["what"] for row in ran.rows.values() for finding in row["findings"]]
    assert "float64_reference" in findings
    assert "oracle" not in findings
