"""An entry of the artifact cache: its key, and the outcome of an export as files in a folder, sealed by checksums.

The key is a digest of everything that the export depends on. Equal keys mean equal exports.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.check.judging.lower_precision import CALIBRATION_SAMPLES
from harness.environment import cpu_signature
from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.result import to_json_line
from harness.spec.language.case import Case
from harness.spec.language.inputs.draws import input_sets
from harness.spec.targets import Target

ENTRY_FILE = "entry.json"
EXPORT_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy", "ml-dtypes")
TRANSFORM_LIBRARIES = ("onnxruntime", "onnxslim", "onnxsim")
EXPORTING_FOLDERS = ("exporters", "fixes", "model", "transforms")
EXPORTING_FILES = ("spec/language/inputs/fills.py", "check/stages.py")
COMPILING_EXPORTERS = {"aoti"}
"""Exporters whose artifact is machine code for the CPU it was made on. On another CPU it may end the process."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The outcome of an export: an artifact, or ``refused``, the message of a refusal.

    ``output`` is what the libraries printed. ``from_library`` is False if harness itself refused, as in
    :class:`StageError`.
    """

    artifact: Artifact | None
    refused: str | None
    unsupported: bool
    output: tuple[str, ...]
    from_library: bool = True

    def artifact_or_raise(self) -> Artifact:
        """The artifact. For a refusal, raises an error that makes the same result as the exporter's own did."""
        if self.artifact is not None:
            return self.artifact
        assert self.refused is not None
        raise (Unsupported if self.unsupported else StageError)(self.refused, from_library=self.from_library)


def read_entry(folder: Path) -> CacheEntry | None:
    """The entry in ``folder``; None if there is none or it is damaged."""
    if not (folder / ENTRY_FILE).is_file():  # the most frequent case in a first run; reading a non-file may block
        return None
    try:
        sealed = json.loads((folder / ENTRY_FILE).read_bytes())
        if sealed["seal"] != _seal(sealed["note"]):
            return None
        note = json.loads(sealed["note"])
        files = note.pop("files")
        if not all((folder / name).is_file() for name in files) or note.pop("sum") != _digest(folder, files):
            return None
        artifact = None if note["artifact"] is None else _artifact_from_json(note["artifact"], folder)
        return CacheEntry(**note | {"artifact": artifact, "output": tuple(note["output"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_entry(entry: CacheEntry, folder: Path) -> None:
    """Write the note of ``entry`` to ``folder``, which already holds the exported file."""
    with os.scandir(folder) as contents:
        files = sorted(file.name for file in contents)
    note = {
        "artifact": None if entry.artifact is None else _artifact_to_json(entry.artifact),
        "refused": entry.refused,
        "unsupported": entry.unsupported,
        "output": entry.output,
        "from_library": entry.from_library,
        "files": files,
        "sum": _digest(folder, files),
    }
    text = to_json_line(note).decode()
    (folder / ENTRY_FILE).write_bytes(to_json_line({"seal": _seal(text), "note": text}))


def _artifact_to_json(artifact: Artifact) -> dict[str, Any]:
    return {field.name: getattr(artifact, field.name) for field in fields(artifact)} | {"path": artifact.path.name}


def _artifact_from_json(note: dict[str, Any], folder: Path) -> Artifact:
    lists = {key: tuple(note[key]) for key in ("notes", "tracer_warnings")}
    return Artifact(**note | lists | {"path": folder / note["path"]})


def _digest(folder: Path, files: Iterable[str]) -> str:
    return sha256(*(folder / name for name in files))


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
