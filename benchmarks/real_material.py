"""Runs every test that the installed onnx ships or generates for backends, and writes the report on it.

    python -m benchmarks.real_material [--into FOLDER] [--report reports/onnx-backend]

The tests are written as recorded models (``model.onnx`` with ``test_data_set_0``), by kind: ``node`` and ``simple`` as
``onnx.backend.test.case`` generates them; ``simple``, ``pytorch-converted`` and ``pytorch-operator`` as they are
shipped; and ``light``, with the ramps that ``onnx.backend.test.runner`` uses as inputs. ``harness run`` then runs all
of them on ONNX Runtime's CPU provider and on onnx's own evaluator.
"""

from __future__ import annotations

import argparse
import json
import locale
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.case.model import collect_testcases
from onnx.backend.test.loader import DATA_DIR, load_model_tests

from benchmarks.real_material_report import markdown

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("simple", "pytorch-converted", "pytorch-operator")
TARGETS = ("file/ort-cpu", "file/reference")
KNOWN = Path(__file__).with_name("onnx_backend")


def main() -> int:
    """Collect the tests, run them, write the report. Returns the exit code of ``harness run``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, help="folder for the tests; default: a temporary folder")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "onnx-backend")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onnx-backend-") as scratch:
        suite = arguments.into or Path(scratch) / "suite"
        collect(suite)
        code = run(suite, Path(scratch))
        report = json.loads((Path(scratch) / "report.json").read_text(encoding="utf-8"))
    arguments.report.mkdir(parents=True, exist_ok=True)
    (arguments.report / "report.md").write_text(markdown(report), encoding="utf-8")
    return code


def collect(suite: Path) -> None:
    """Write every test under ``suite``. If a test is both shipped and generated, the shipped one is used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests overflow and divide by zero on purpose
        generated = [*load_model_tests(kind="node"), *(case for case in collect_testcases() if case.model is not None)]
    for case in generated:
        write_case(suite / case.kind / case.name, case)
    for kind in SHIPPED:
        for folder in sorted(path for path in Path(DATA_DIR, kind).iterdir() if path.is_dir()):
            shutil.rmtree(suite / kind / folder.name, ignore_errors=True)
            shutil.copytree(folder, suite / kind / folder.name)
    for case in load_model_tests(kind="real"):
        write_light(suite / "light" / case.name, case)


def write_case(folder: Path, case: Any) -> None:
    """Write a generated test, as ``backend-test-tools generate-data`` would write it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data_set = folder / f"test_data_set_{number}"
        data_set.mkdir()
        sides = (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output))
        for side, values, declared in sides:
            for at, (value, about) in enumerate(zip(values, declared, strict=False)):
                (data_set / f"{side}_{at}.pb").write_bytes(encoded(value, about))


def encoded(value: Any, about: ValueInfoProto) -> bytes:
    """Return one value as the protobuf of its declared kind."""
    encoders: dict[str | None, Callable[..., Any]] = {
        "tensor_type": numpy_helper.from_array,
        "sequence_type": numpy_helper.from_list,
        "optional_type": numpy_helper.from_optional,
        "map_type": numpy_helper.from_dict,
    }
    kind = about.type.WhichOneof("value")
    message = value if isinstance(value, TensorProto) else encoders[kind](value, about.name)
    data: bytes = message.SerializeToString()
    return data


def write_light(folder: Path, case: Any) -> None:
    """Write a test of a whole network with constant weights: its input is a ramp, its output is shipped beside it."""
    source = Path(DATA_DIR, "light", Path(case.url).name)
    model = onnx.load(str(source))
    data_set = folder / "test_data_set_0"
    data_set.mkdir(parents=True)
    shutil.copy(source, folder / "model.onnx")
    (folder / "data.json").write_text(f'{{"rtol": {case.rtol}, "atol": {case.atol}}}\n', encoding="utf-8")
    for at, value in enumerate(ramps(model)):
        (data_set / f"input_{at}.pb").write_bytes(value.SerializeToString())
    for at in range(len(model.graph.output)):
        shutil.copy(source.with_name(f"{source.stem}_output_{at}.pb"), data_set / f"output_{at}.pb")


def ramps(model: ModelProto) -> Iterator[TensorProto]:
    """Yield for each input the numbers 0, 1/n, 2/n, ... in its shape."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in constants:
            shape = [axis.dim_value if axis.HasField("dim_value") else 1 for axis in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            ramp = (np.arange(count).reshape(shape) / count).astype(np.float32)
            yield numpy_helper.from_array(ramp, value.name)


def run(suite: Path, scratch: Path) -> int:
    """Run ``harness run`` on all tests, without latency, and return its exit code."""
    known = scratch / "known-failures.yaml"
    known.write_text("\n".join(path.read_text(encoding="utf-8") for path in lists()), encoding="utf-8")
    command = [sys.executable, "-m", "harness", "run", str(suite), "--targets", ",".join(TARGETS), "--no-latency"]
    command += ["--known-failures", str(known), "--timeout", "300", "--report-dir", str(scratch), "--format", "json"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def lists() -> Iterator[Path]:
    """Yield the lists of known failures that apply on this machine."""
    yield KNOWN / "known-failures.yaml"
    if find_spec("PIL") is None:
        yield KNOWN / "without-pillow.yaml"
    try:
        locale.setlocale(locale.LC_CTYPE, "en_US.UTF-8")
    except locale.Error:
        yield KNOWN / "without-locale.yaml"


if __name__ == "__main__":
    sys.exit(main())
