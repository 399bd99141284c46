"""Model files that a spec or a command names: the format of each, found by its content. Nothing is loaded or run.

A ``.pt`` may be one of three things. TorchScript is a model; loading it runs its code. What ``torch.save`` writes of
tensors alone are weights. What it writes of anything else is a pickle that runs code when it is loaded: harness refuses
it, and says how to convert it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

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

ORT_IDENTIFIER = b"ORTM"
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
            kind = "not a regular file" if path.exists() else "no such file"
            raise UsageError(f"{shown}: {kind}; name a model, {' '.join(SUFFIXES)}")
        return StoredModel(str(path), _format(path, shown), _stamp(path))
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def _format(path: Path, shown: str) -> ModelFormat:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        if not path.stat().st_size:
            raise UsageError(f"{shown}: an empty file is no model; export it again")
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
    return "holds weights, not a model; name the module as the reference, as file.py:Net, and this file with --weights"


def _stamp(path: Path) -> str:
    """Sizes and times of the file and of the files that begin with its name, which hold external data."""
    files = sorted(file for file in path.parent.glob(f"{_escaped(path.name)}*") if file.is_file())
    return " ".join(f"{stat.st_size}@{stat.st_mtime_ns}" for stat in (file.stat() for file in files))


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
