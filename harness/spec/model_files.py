"""Model files that a spec or a command names: the format of each, found by its content. Nothing is loaded or run.

A ``.pt`` may be one of three things. TorchScript is a model; loading it runs its code. What ``torch.save`` writes of
tensors alone are weights. What it writes of anything else is a pickle that runs code when it is loaded: harness refuses
it, and says how to convert it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from harness.data_files import LFS_POINTER, absent_python_file, is_lfs_pointer, near_file
from harness.data_files.torch_files import read_pt
from harness.errors import UsageError, escape_path
from harness.spec.language.case import ModelFormat, StoredModel

FORMAT_NAMES: Mapping[ModelFormat, str] = {
    "onnx": "ONNX",
    "ort": "ONNX Runtime's own format",
    "torchscript": "TorchScript",
    "program": "a program of torch.export",
    "aoti": "a library of AOTInductor",
}
MODULE_FORMATS: frozenset[ModelFormat] = frozenset({"torchscript", "program"})
"""The formats that are loaded as a module, so that they can be a reference in float64, and can be exported."""
SUFFIXES = (".onnx", ".ort", ".pt", ".pth", ".jit", ".ts", ".pt2")
NAME_A_MODEL = f"name a model, {' '.join(SUFFIXES)}"

ORT_IDENTIFIER = b"ORTM"
# protobuf.dev/programming-guides/encoding and onnx.proto's ModelProto
GRAPH_FIELD, MAX_FIELD = 7, 1000
VARINT, LENGTH_DELIMITED = 0, 2
_FIXED_BYTES: Mapping[int, int] = {1: 8, 5: 4}
NOT_TORCH = "not a model that torch wrote; name TorchScript (.pt) or a program (.pt2)"
CONVERT = (
    "save the model with torch.jit.save(torch.jit.script(model), 'model.jit') or "
    "torch.export.save(torch.export.export(model, inputs), 'model.pt2'), or name its module, file.py:Net, and save "
    "its weights alone"
)


def is_model_file(text: str) -> bool:
    """True if ``text`` has the name of a model file, not the name of a callable."""
    return text.lower().endswith(SUFFIXES)


def stored_model(path: Path) -> StoredModel:
    """The model file at ``path``. Raises :class:`UsageError` if it is no model, or one that runs unknown code."""
    shown = escape_path(path)
    try:
        if not path.is_file():
            problem = f"not a regular file; {NAME_A_MODEL}" if path.exists() else _absent_model(path)
            raise UsageError(f"{shown}: {problem}")
        for file in _with_external_data(path):
            if is_lfs_pointer(file):
                raise UsageError(f"{escape_path(file)}: {LFS_POINTER}")
        return StoredModel(str(path), _format(path, shown), _stamp(path))
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def absent_files(models: Sequence[str], inputs: Sequence[str], weights: str | None) -> list[str]:
    """A sentence for each file that a command names and that does not exist. Nothing is loaded to find it out.

    ``models`` are model files and callables, ``inputs`` and ``weights`` data files.
    """
    problems = []
    for name in models:
        file = name if is_model_file(name) else name.rpartition(":")[0]
        if is_model_file(name) and _is_absent(file):
            problems.append(f"{escape_path(file)}: {_absent_model(Path(file))}")
        elif file.endswith(".py") and _is_absent(file):
            problems.append(f"factory {name!r}: {absent_python_file(file)}")
    data = [*inputs, *([weights] if weights is not None else [])]
    return problems + [
        f"{path}: no such file; {near_file(Path(path), 'name a data file')}" for path in data if _is_absent(path)
    ]


def _is_absent(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - pathlib takes some other errors for absence too
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # whoever reads it says why it cannot be read
        return False
    return False


def _absent_model(path: Path) -> str:
    return f"no such file; {near_file(path, NAME_A_MODEL)}"


def _format(path: Path, shown: str) -> ModelFormat:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        if problem := _onnx_problem(path):
            raise UsageError(f"{shown}: {problem}; export it again")
        return "onnx"
    if suffix == ".ort":
        with path.open("rb") as file:
            if file.read(8)[4:] != ORT_IDENTIFIER:
                raise UsageError(
                    f"{shown}: not a model in ONNX Runtime's format; write it with "
                    "python -m onnxruntime.tools.convert_onnx_models_to_ort"
                )
        return "ort"
    if suffix not in SUFFIXES:
        raise UsageError(f"{shown}: not a model file; name one of {' '.join(SUFFIXES)}")
    return _torch_format(path, shown)


def _onnx_problem(path: Path) -> str | None:
    """What is wrong with the outermost fields of an ONNX file, a protobuf; None if nothing is. It reads their headers.

    What is inside of the graph is for onnx to read, which is not loaded here.
    """
    size = path.stat().st_size
    if not size:
        return "an empty file is no model"
    numbers: set[int] = set()
    with path.open("rb") as file:
        while file.tell() < size:
            tag = _varint(file)
            if tag is None or tag >> 3 not in range(1, MAX_FIELD):
                return "not an ONNX model"
            skipped = _FIXED_BYTES.get(tag & 7)
            if tag & 7 in {VARINT, LENGTH_DELIMITED}:
                value = _varint(file)
                if value is None:
                    return "a truncated ONNX model"
                skipped = value if tag & 7 == LENGTH_DELIMITED else 0
            if skipped is None:
                return "not an ONNX model"
            if file.tell() + skipped > size:
                return "a truncated ONNX model" if numbers else "not an ONNX model, or a truncated one"
            file.seek(skipped, os.SEEK_CUR)
            numbers.add(tag >> 3)
    return None if GRAPH_FIELD in numbers else "not an ONNX model: it has no graph"


def _varint(file: IO[bytes]) -> int | None:
    """The protobuf integer that begins here; None if there is none."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _torch_format(path: Path, shown: str) -> ModelFormat:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(1) == b"\x80":  # what pickle, and torch.save before torch 1.6, wrote
                raise UsageError(f"{shown}: {_pickle_problem(path)}")
        raise UsageError(f"{shown}: {NOT_TORCH}")
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] or name for name in archive.namelist()]
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if any("aotinductor/" in name for name in names):
        return "aoti"
    if any(name.startswith("models/") for name in names) or "serialized_exported_program.json" in names:
        return "program"
    if "data.pkl" in names:
        raise UsageError(f"{shown}: {_pickle_problem(path)}")
    raise UsageError(f"{shown}: {NOT_TORCH}")


def _pickle_problem(path: Path) -> str:
    """What ``torch.save`` wrote into the file, and what to do. Nothing of it is unpickled."""
    try:
        read_pt(path)
    except UsageError as error:
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
        return f"{reason}; {CONVERT}"
    return (
        "holds weights, not a model; name the module as the reference, as file.py:Net, and this file with --weights "
        "(in a spec, `factory:` and `weights:`)"
    )


def _stamp(path: Path) -> str:
    """Sizes and times of the file and of the files that hold its external data."""
    stats = (file.stat() for file in _with_external_data(path))
    return " ".join(f"{stat.st_size}@{stat.st_mtime_ns}" for stat in stats)


def _with_external_data(path: Path) -> list[Path]:
    """The file and those that begin with its name, which hold external data."""
    return sorted(file for file in path.parent.glob(f"{_escaped(path.name)}*") if file.is_file())


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
