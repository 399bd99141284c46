"""A bundle that is not what was packed is refused before anything runs: in one line, with exit code 2."""

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

from harness.spec.bundle.reader import seal_of
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
    """A copy to do harm to."""
    shutil.copytree(sound, here / "bundle")
    return here / "bundle"


def manifest(bundle: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return told


def reseal(bundle: Path, told: dict[str, Any]) -> None:
    """Write the manifest as somebody would who knows how it is sealed."""
    (bundle / "manifest.json").write_text(json.dumps({**told, "seal": seal_of(told)}), encoding="utf-8")


def model(bundle: Path) -> Path:
    return next(path for path in sorted(bundle.glob("onnx/*/model.onnx")) if "linear" in str(path))


def recorded(bundle: Path) -> Path:
    return min(bundle.glob("data/*.pb"))


def flip_a_bit(bundle: Path) -> None:
    data = bytearray(model(bundle).read_bytes())
    data[-1] ^= 1
    model(bundle).write_bytes(data)


def change_an_answer(bundle: Path) -> None:
    recorded(bundle).write_bytes(recorded(bundle).read_bytes()[:-1] + b"\x01")


def lose_a_file(bundle: Path) -> None:
    recorded(bundle).unlink()


def lose_the_models(bundle: Path) -> None:
    shutil.rmtree(bundle / "onnx")


def add_a_file(bundle: Path) -> None:
    (model(bundle).parent / "more.bin").write_bytes(b"")


def add_at_the_top(name: str) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_bytes(b"raise ImportError\n")

    return harm


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


def forgive_everything(bundle: Path) -> None:
    (bundle / "known-failures.yaml").write_text("[]\n", encoding="utf-8")


def come_from_later(bundle: Path) -> None:
    reseal(bundle, {**manifest(bundle), "format": 2, "much": "that is new"})


def be_no_bundle(bundle: Path) -> None:
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


def escape(path: str) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        told = manifest(bundle)
        shutil.copy(model(bundle), bundle.parent / "model.onnx")
        own = model(bundle).relative_to(bundle).as_posix()
        text = json.dumps(told).replace(json.dumps(own), json.dumps(path))
        assert text != json.dumps(told)
        reseal(bundle, json.loads(text))

    return harm


def keep_data_outside(location: str) -> Callable[[Path], None]:
    """The model's weights in a file that is not the bundle's, with every checksum made anew."""

    def harm(bundle: Path) -> None:
        (bundle.parent / "weights.bin").write_bytes(bytes(12))
        file = model(bundle)
        changed = onnx.load(file)
        changed.graph.initializer.append(stored_outside(location.format(outside=bundle.parent)))
        file.unlink()
        file.write_bytes(changed.SerializeToString())
        told, name = manifest(bundle), file.relative_to(bundle).as_posix()
        from harness.spec.bundle.reader import sha256_of

        told["files"][name] = sha256_of(file)
        reseal(bundle, told)

    return harm


def say_it_twice(bundle: Path) -> None:
    told = manifest(bundle)
    reseal(bundle, {**told, "cases": [*told["cases"], told["cases"][0]]})


def leave_an_export_out(bundle: Path) -> None:
    told = manifest(bundle)
    del told["cases"][0]["exports"]["onnx-dynamo@23"]
    reseal(bundle, told)


def name_an_input_otherwise(bundle: Path) -> None:
    told = manifest(bundle)
    told["cases"][0]["inputs"][0]["label"] = "other"
    reseal(bundle, told)


def draw_otherwise(**changes: Any) -> Callable[[Path], None]:
    """An input of the first case, told to be something else."""

    def harm(bundle: Path) -> None:
        told = manifest(bundle)
        told["cases"][0]["inputs"][0] |= changes
        reseal(bundle, told)

    return harm


def expect_a_shape(shape: list[int]) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        told = manifest(bundle)
        told["cases"][0]["expect"]["shape"] = [shape]
        reseal(bundle, told)

    return harm


def sample_a_shape(shape: list[int]) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        told = manifest(bundle)
        told["cases"][0]["rounds"][0]["sample"] = {"every": 1, "shapes": [shape]}
        reseal(bundle, told)

    return harm


def tell_otherwise(**changes: Any) -> Callable[[Path], None]:
    """A result that stands for what there is no file of, made up."""

    def harm(bundle: Path) -> None:
        told = manifest(bundle)
        case = next(case for case in told["cases"] if case["not_packed"])
        first = next(iter(case["not_packed"]))
        case["not_packed"][first] |= changes
        reseal(bundle, told)

    return harm


def write(text: bytes) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        (bundle / "manifest.json").write_bytes(text)

    return harm


def link_the_manifest(to: str) -> Callable[[Path], None]:
    def harm(bundle: Path) -> None:
        (bundle / "manifest.json").unlink()
        (bundle / "manifest.json").symlink_to(to)

    return harm


def wait_for_a_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip_a_bit, "is not what was packed: its SHA-256 is another"),
        (change_an_answer, "is not what was packed: its SHA-256 is another"),
        (lose_a_file, "is in the manifest, but is not there"),
        (lose_the_models, "is in the manifest, but is not there (and"),
        (add_a_file, "is in the bundle, but not in its manifest"),
        (add_at_the_top("numpy.py"), "numpy.py:1:1: is in the bundle, but not in its manifest; remove it"),
        (add_at_the_top("torch/__init__.py"), "torch:1:1: is in the bundle, but not in its manifest; remove it"),
        (add_at_the_top("x-1.0.dist-info/METADATA"), "x-1.0.dist-info:1:1: is in the bundle, but not in its manifest"),
        (link_reports, "reports:1:1: is in the bundle, but not in its manifest"),
        (cut_the_manifest, "the manifest is cut short or broken"),
        (loosen_a_tolerance, "it was changed after it was packed: its seal is another"),
        (forgive_everything, "is not what was packed: its SHA-256 is another"),
        (come_from_later, "this bundle is of format 2; this harness reads format 1; update it"),
        (be_no_bundle, "this is not the manifest of a bundle"),
        (link_a_file, "a link, which may lead out of the bundle"),
        (link_a_folder, "a link, which may lead out of the bundle"),
        (link_in_a_circle, "is in the manifest, but is not there"),
        (escape("../model.onnx"), "leads out of the bundle"),
        (escape("onnx/../../model.onnx"), "leads out of the bundle"),
        (escape("/etc/hostname"), "leads out of the bundle"),
        (escape("C:\\model.onnx"), "leads out of the bundle"),
        (keep_data_outside("../../../weights.bin"), "outside the folder"),
        (keep_data_outside("{outside}/weights.bin"), "outside the folder"),
        (say_it_twice, "is there twice"),
        (tell_otherwise(status="fine"), "status: Input should be 'passed'"),
        (tell_otherwise(seconds={"build": "long"}), "seconds.build: Input should be a valid number"),
        (tell_otherwise(latency={"median_us": "quick"}), "a check that was never run has no latency"),
        (write(b'{"format": ' + b"9" * 5000 + b"}"), "this is not a JSON text that can be read"),
        (write(b"[" * 100_000), "this is not a JSON text that can be read"),
        (draw_otherwise(shape=[2**20, 2**20]), "at most 268435456 (2^28) a tensor"),
        (draw_otherwise(shape=[1] * 17), "should have at most 16 items"),
        (draw_otherwise(shape=[-1]), "greater than or equal to 0"),
        (draw_otherwise(shape=[2**20] * 16), "at most 268435456 (2^28) a tensor"),
        (draw_otherwise(dtype="U1000000000"), "Input should be 'float32'"),
        (draw_otherwise(dtype="object"), "Input should be 'float32'"),
        (draw_otherwise(fill={"kind": "integers", "parameters": [9, 0]}), "no input can be drawn by this fill"),
        (draw_otherwise(fill={"kind": "uniform", "parameters": []}), "no input can be drawn by this fill"),
        (draw_otherwise(fill={"kind": "choice", "parameters": []}), "no input can be drawn by this fill"),
        (draw_otherwise(fill={"kind": "full", "parameters": []}), "full without a number"),
        (expect_a_shape([1] * 17), "should have at most 16 items"),
        (sample_a_shape([1] * 65), "should have at most 64 items"),
        (link_the_manifest("/dev/zero"), "this is not a file"),
        (link_the_manifest("nowhere"), "this is not a file"),
        (wait_for_a_manifest, "this is not a file"),
        (name_an_input_otherwise, "not each of its inputs is recorded"),
        (leave_an_export_out, "nothing is said of its export onnx-dynamo@23"),
    ],
)
def test_it_is_refused_in_one_line(bundle: Path, harness: Call, harm: Callable[[Path], None], said: str) -> None:
    harm(bundle)
    ran = harness("run", "bundle", "--targets", "ort-cpu")
    assert ran.code == 2, ran.out
    assert said in ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err
    assert not ran.report


def test_what_stands_for_another_case_is_told_of_its_own(bundle: Path, harness: Call) -> None:
    tell_otherwise(case="another/case")(bundle)
    ran = harness("run", "bundle", "--no-latency", "--targets", "trace/torch-cpu,ort-cpu")
    assert ran.code in {0, 1}
    assert not any(case.startswith("another") for case, _ in ran.rows)


def test_a_sound_one_is_taken(bundle: Path, harness: Call) -> None:
    """Also in another place, as copies and not as links."""
    ran = harness("run", "bundle", "--targets", "ort-cpu", "--no-latency", "-k", "linear")
    assert ran.code == 0, ran.out + ran.err
    assert len(ran.rows) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bundle", "spec.yaml"], "a bundle has targets of its own; give it to a run of its own"),
        (["bundle", "--targets", "onnx-dynamo@18/ort-cpu"], "the bundle has no export onnx-dynamo@18"),
        (["bundle", "--targets", "ort-cqu"], "no set of targets is called so"),
    ],
)
def test_a_request_that_it_cannot_fulfil(bundle: Path, harness: Call, arguments: list[str], said: str) -> None:
    ran = harness("run", *arguments)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.parametrize("command", ["list", "check"])
def test_a_bundle_is_listed_and_checked(bundle: Path, harness: Call, command: str) -> None:
    ran = harness(command, "bundle")
    assert ran.code == 0, ran.err
    assert "7 cases" in ran.out


def test_a_run_in_the_bundle_writes_its_reports_there(
    bundle: Path, harness: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memo more as well; and what a file manager or git leaves there is no part of it."""
    monkeypatch.chdir(bundle)
    (bundle / ".gitattributes").write_text("*.onnx binary\n", encoding="utf-8")
    run = ("run", ".", "--targets", "onnx-torchscript@17/ort-cpu", "--no-latency", "-k", "linear")
    assert harness(*run).code == 0
    assert harness(*run, "--report-dir", "mine").code == 0
    assert harness(*run).code == 0
