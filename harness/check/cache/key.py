"""The key of an artifact: a digest of everything it depends on. Equal keys mean equal exports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

from harness.check.judging.lower_precision import CALIBRATION_SAMPLES
from harness.environment import cpu_signature
from harness.spec.language.case import Case
from harness.spec.language.inputs.draws import input_sets
from harness.spec.targets import Target

EXPORT_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes")
TRANSFORM_LIBRARIES = ("onnxruntime", "onnxslim", "onnxsim")
EXPORTING_FOLDERS = ("exporters", "fixes", "model", "transforms")
EXPORTING_FILES = ("spec/language/inputs/fills.py", "check/stages.py")
COMPILING_EXPORTERS = {"aoti"}
"""Exporters whose artifact is machine code for the CPU it was made on. On another CPU it may end the process."""


def key(case: Case, target: Target) -> str:
    """The digest of everything the artifact depends on: model and inputs as data, the target's export, the code.

    The CPU is part of the key of a compiled artifact: a cache may be moved from one machine to another.
    """
    return keys(case)(target)


def keys(case: Case) -> Callable[[Target], str]:
    """A function that gives :func:`key` for any target of ``case``. The case is hashed once."""
    parts = (case.model, case.inputs, case.structure, case.mode, case.dtype, case.seed, sorted(case.dynamic.items()))
    common = hashlib.sha256(f"{parts!r}\n{exporting_code()}\n".encode())

    def key_of(target: Target) -> str:
        cpu = cpu_signature() if target.exporter in COMPILING_EXPORTERS else ""
        digest = common.copy()
        digest.update(f"{target.export}\n{cpu}".encode())
        if target.transforms:  # they may read every set of inputs
            libraries = " ".join(f"{name}={_version(name)}" for name in TRANSFORM_LIBRARIES)
            samples = () if case.data is None else case.samples[:CALIBRATION_SAMPLES]
            digest.update(f"\n{input_sets(case)!r}{samples!r}\n{libraries}".encode())
        return digest.hexdigest()

    return key_of


@cache
def exporting_code() -> str:
    """The versions of the exporting libraries, and a digest of all other code that takes part in an export."""
    package = Path(__file__).parents[2]
    sources = {path for folder in EXPORTING_FOLDERS for path in (package / folder).glob("*.py")}
    sources |= {package / name for name in EXPORTING_FILES} | _plugin_files()
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    return " ".join([*(f"{name}={_version(name)}" for name in EXPORT_LIBRARIES), code])


def _plugin_files() -> set[Path]:
    """The files of the exporters, fixes and transforms that other packages add."""
    points = [point for kind in ("exporters", "fixes", "transforms") for point in entry_points(group=f"harness.{kind}")]
    specs = [find_spec(point.module) for point in points]
    return {Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
