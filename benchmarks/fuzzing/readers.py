"""The readers: for each, valid sample files, and a function that gives it a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.fuzzing import bundles, reports
from benchmarks.fuzzing.corrupt import corrupted
from benchmarks.fuzzing.corrupt_json import corrupted_json
from benchmarks.fuzzing.models import model, tensor
from harness.spec.discovery import load_specs
from harness.spec.expressions import compile_expression
from harness.spec.known_failures import load_known_failures
from harness.spec.targets import parse_target
from harness.spec.targets.sets import load_target_sets

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "specs"
SMALL = 6_000


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader. ``read`` takes a folder for files, and the bytes; ``weight`` is its share of all inputs.

    ``corrupt`` corrupts one of the samples that ``material`` returns.
    """

    name: str
    weight: int
    material: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], object]
    corrupt: Callable[[bytes, Random], bytes] = corrupted


def _file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def read_file(folder: Path, content: bytes) -> object:
        path = folder / name
        path.write_bytes(content)
        try:
            return read(path)
        finally:
            path.unlink()

    return read_file


def _shipped(pattern: str) -> list[bytes]:
    """The shipped files, each cut after a case to a size that is fast to read."""
    return [_begun(path.read_bytes()) for path in sorted(SPECS.glob(pattern)) if path.suffix == ".yaml"]


def _begun(content: bytes) -> bytes:
    return (
        content if len(content) < SMALL else content[: content.rfind(b"\n  - name:", 0, SMALL) + 1] or content[:SMALL]
    )


def _open_model(path: Path) -> object:
    from harness.check.recorded.protobufs import open_model

    return open_model(path)


def _data_set(folder: Path, content: bytes) -> object:
    """Read a data set in which one recorded tensor is corrupted."""
    from harness.check.recorded.protobufs import open_model, read_data_set

    data = folder / "test_data_set_0"
    data.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model())
    (data / "input_0.pb").write_bytes(content)
    (data / "output_0.pb").write_bytes(tensor())
    return read_data_set(data, open_model(folder / "model.onnx"))


def _recorded(folder: Path, content: bytes) -> object:
    """Read a recorded model whose ``data.json`` is corrupted."""
    (folder / "net" / "test_data_set_0").mkdir(parents=True, exist_ok=True)
    (folder / "net" / "model.onnx").write_bytes(model())
    (folder / "net" / "data.json").write_bytes(content)
    return load_specs([folder / "net"])


def _targets(path: Path) -> object:
    return load_target_sets(path.parent).all


def _target(_folder: Path, content: bytes) -> object:
    return parse_target(content.decode("utf-8", "replace"))


def _formula(_folder: Path, content: bytes) -> object:
    return compile_expression(content.decode("utf-8", "replace")).evaluate(VALUES)


VALUES = {
    "x": np.arange(12.0).reshape(3, 4),
    "y": np.arange(3),
    "mask": np.ones((3, 4), bool),
    "kernel_size": (2, 3),
    "stride": None,
    "mode": "mean",
    "n": 2**62,
}
FORMULAS = [
    b"where(x > 0, x, 0.01 * x)[..., None, ::2] + n",
    b"sum(x[mask][[0, 1, 2]], axis=0, keepdims=True) ** 2 // kernel_size[1]",
    b"matmul(x, transpose(x)) @ reshape(x, (3, 4)) & (y[:, None] < 2)",
    b"clip(x, 0, max(y)) == minimum(x, [y, y, y][0][:, None]) and isnan(x) or not mask",
    b"cumsum(abs(x) % 3, axis=1)[1:, y] * stride - mode",
]

READERS = (
    Reader(
        "specs", 40, lambda: _shipped("*.yaml") + _shipped("*/*.yaml"), _file("a.yaml", lambda path: load_specs([path]))
    ),
    Reader(
        "known failures",
        10,
        lambda: [(SPECS / "known-failures.yaml").read_bytes()[:SMALL]],
        _file("known-failures.yaml", load_known_failures),
    ),
    Reader("sets of targets", 10, lambda: [(SPECS / "targets.yaml").read_bytes()], _file("targets.yaml", _targets)),
    Reader(
        "targets", 10, lambda: [b"onnx-dynamo@23+fixes/ort-cpu?threads=2&optimization=all", b"trace/torch-cpu"], _target
    ),
    Reader("formulas", 10, lambda: FORMULAS, _formula),
    Reader(
        "reports",
        10,
        reports.material,
        _file("report.json", reports.use),
        corrupted_json,
    ),
    Reader("bundles", 10, bundles.material, bundles.use, corrupted_json),
    Reader(
        "data.json",
        5,
        lambda: [b'{"rtol": 1e-3, "atol": 1e-7}', b'{"about": "x", "tolerance": {"by_output": {"0": {"ulp": 4}}}}'],
        _recorded,
    ),
    Reader("ONNX files", 10, lambda: [model()], _file("model.onnx", _open_model)),
    Reader("recorded tensors", 5, lambda: [tensor()], _data_set),
)


def scratch() -> Path:
    """Create a temporary folder, in memory if possible, because many small files are written."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
