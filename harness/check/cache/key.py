"""What an exported file is made of, as one name: two exports of the same name are the same export."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

from harness.environment import processor
from harness.spec.language.case import Case
from harness.spec.targets import Target

EXPORTING = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes")
OWN_ROOMS = ("exporters", "fixes", "model")
OWN_FILES = ("spec/language/fills.py", "check/stages.py")
COMPILING = {"aoti"}
"""Exporters whose file is code for the CPU that it was made on, and may end a process on another."""


def key(case: Case, target: Target) -> str:
    """A digest of all that the exported file depends on: the model and its inputs as data, the target, the code.

    Where the file is compiled, the CPU as well: a cache may be carried from one machine to another.
    """
    return keys(case)(target)


def keys(case: Case) -> Callable[[Target], str]:
    """The same for every target of a case, which is written out once."""
    parts = (case.model, case.inputs, case.mode, case.dtype, case.seed, sorted(case.dynamic.items()))
    common = hashlib.sha256(f"{parts!r}\n{made_with()}\n".encode())

    def of(target: Target) -> str:
        made_for = processor() if target.exporter in COMPILING else ""
        whole = common.copy()
        whole.update(f"{target.export}\n{made_for}".encode())
        return whole.hexdigest()

    return of


@cache
def made_with() -> str:
    """The versions of the exporting libraries, and a digest of all code outside them that takes part in an export."""
    package = Path(__file__).parents[2]
    sources = {path for room in OWN_ROOMS for path in (package / room).glob("*.py")}
    sources |= {package / name for name in OWN_FILES} | _of_others()
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    return " ".join([*(f"{name}={_version(name)}" for name in EXPORTING), code])


def _of_others() -> set[Path]:
    """The files of the exporters and fixes that other packages add."""
    points = (*entry_points(group="harness.exporters"), *entry_points(group="harness.fixes"))
    found = [find_spec(point.module) for point in points]
    return {Path(spec.origin) for spec in found if spec is not None and spec.origin is not None}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
