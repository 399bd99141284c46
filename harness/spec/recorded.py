"""Recorded models: folders with a model file, inputs and expected outputs, in the layout of ONNX's backend tests.

    test_relu/
      model.onnx                 or model.ort, in ONNX Runtime's own format
      data.json                  optional: the tolerance of the outputs, and the variants
      test_data_set_0/
        input_0.pb               one protobuf for each input of the graph, in order
        output_0.pb              and one for each output
      variants/fp16/model.onnx   optional: further files that are held to the same data

A variant is a case of its own, ``test_relu[model=fp16]``. Nothing is decoded here: that needs onnx, and the check does
it in its worker process. Files outside the folder are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat

from harness.errors import Location, Problem, RequestError, SpecError, escape_path
from harness.spec.language.case import Case, FileModel, WeightedModel
from harness.spec.language.inputs.data_keys import DataPath
from harness.spec.language.inputs.names import CaseName
from harness.spec.language.schema import ToleranceRules
from harness.spec.language.tolerances import Calibrated, CaseTolerance, Close, Scaled
from harness.spec.yaml import read
from harness.spec.yaml.strict import StrictModel, invalid_value, validated

MODEL_FILE = "model.onnx"
MODEL_FILES = (MODEL_FILE, "model.ort")
"""The names that the file of a recorded model may have; the first one that is there is meant."""
MANIFEST_FILE = "data.json"
NUMBER = re.compile(r"[0-9]{1,9}")
DATA_SET = re.compile(r"test_data_set_[0-9]+")

BACKEND_TOLERANCE = Close(rtol=1e-3, atol=1e-7)
"""The tolerance of ONNX's own backend tests: the defaults of ``onnx.backend.test.loader``."""


def is_recorded_model(parent: Path, folders: Sequence[str], files: Sequence[str]) -> bool:
    """True if ``parent``, which contains these ``folders`` and ``files``, is a recorded model.

    Raises :class:`RequestError` if there is test data but no model.
    """
    data_sets = any(DATA_SET.fullmatch(name) for name in folders)
    if data_sets and model_file(files) is None:
        raise RequestError(f"{parent}: test data without its model; put the model beside it as {MODEL_FILE}")
    return data_sets


def model_file(files: Collection[str]) -> str | None:
    """The one of ``files`` that is the recorded model; None if none is."""
    return next((name for name in MODEL_FILES if name in files), None)


def recorded_cases(folder: Path, case_id: str) -> tuple[Case, ...]:
    """The case of the recorded model in ``folder``, and one for each of its variants.

    Raises :class:`SpecError` for a wrong manifest, and for a file that lies outside ``folder``.
    """
    data_sets = sorted(filter(_is_data_set, folder.iterdir()), key=lambda path: int(path.name.rpartition("_")[2]))
    model = folder / (model_file([path.name for path in folder.iterdir()]) or MODEL_FILE)
    data = [file for data_set in data_sets for file in sorted(data_set.glob("*.pb"))]
    if problems := list(_file_problems(folder, [model, *data, folder / MANIFEST_FILE])):
        raise SpecError(problems)
    about, tolerance, variants = _read_manifest(folder)
    cases = []
    for name, file in {"": model, **variants}.items():
        stored = FileModel(
            path=str(file),
            data_sets=tuple(map(str, data_sets)),
            stamp=_fingerprint([file, *data] if file == model else [file, model, *data]),
            recorded_with=str(model) if name else "",
        )
        cases.append(
            Case(
                id=f"{case_id}[model={name}]" if name else case_id,
                about=about,
                model=WeightedModel(stored),
                inputs=(),
                where=Location(escape_path(file)),
                tolerance=tolerance,
            )
        )
    return tuple(cases)


def _with_number_keys(value: Any) -> Any:
    """``by_output`` with numbers as keys: JSON can only write them as strings."""
    if not isinstance(value, Mapping) or not isinstance(value.get("by_output"), Mapping):
        return value
    rules = {int(key) if NUMBER.fullmatch(str(key)) else key: rule for key, rule in value["by_output"].items()}
    return {**value, "by_output": rules}


def without_unrecorded(tolerance: CaseTolerance) -> CaseTolerance:
    """``tolerance``; refuses the rules that need more than the recorded outputs."""
    if tolerance.has(Scaled):
        raise invalid_value("scaled needs magnitudes of terms, which are not recorded", "write ulp, or rtol and atol")
    if tolerance.has(Calibrated):
        raise invalid_value(
            "calibrated needs a float64 reference, which is not recorded", "write ulp, or rtol and atol"
        )
    return tolerance


_RecordedRules = Annotated[ToleranceRules, BeforeValidator(_with_number_keys), AfterValidator(without_unrecorded)]


class _Manifest(StrictModel):
    """``data.json`` as ``onnx.backend.test.loader`` reads it, with a tolerance in the syntax of a spec."""

    model_name: str = ""
    url: str | None = None
    about: str = ""
    rtol: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] | None = None
    atol: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] | None = None
    tolerance: _RecordedRules | None = None
    variants: dict[CaseName, DataPath] = Field(default_factory=dict)


def _read_manifest(folder: Path) -> tuple[str, CaseTolerance, Mapping[str, Path]]:
    """The description, the tolerance and the variants in the manifest; all empty if there is no manifest."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        return "", CaseTolerance(), {}
    node = read(path)
    manifest = validated(_Manifest, node)
    variants = {name: folder / text for name, text in manifest.variants.items()}
    where = node.child("variants") or node
    problems = [
        Problem(where.location([name]), f"{name}: {problem.message}", problem.remedy)
        for name, file in variants.items()
        for problem in _variant_problems(folder, file)
    ]
    if problems:
        raise SpecError(problems)
    if manifest.tolerance is not None:
        return manifest.about, manifest.tolerance, variants
    if manifest.rtol is None and manifest.atol is None:
        return manifest.about, CaseTolerance(), variants
    rtol = BACKEND_TOLERANCE.rtol if manifest.rtol is None else manifest.rtol
    atol = BACKEND_TOLERANCE.atol if manifest.atol is None else manifest.atol
    return manifest.about, CaseTolerance(Close(rtol, atol)), variants


def _variant_problems(folder: Path, file: Path) -> Iterator[Problem]:
    """What is wrong with the file of a variant."""
    where = Location(escape_path(file))
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder)):
        yield Problem(where, "a path that leads out of the model's folder", "put the file itself there")
    elif file.suffix not in {Path(name).suffix for name in MODEL_FILES}:
        yield Problem(where, "not a model file", "name a file *.onnx or *.ort")
    elif not file.is_file():
        yield Problem(where, "no such file", "paths are relative to the model's folder")


def _file_problems(folder: Path, files: Sequence[Path]) -> Iterator[Problem]:
    """A problem for each file that a link places outside the folder, and for a model that is a pipe and would block."""
    # Not Path.resolve, which raises where a link leads to itself.
    root = os.path.realpath(folder)
    for file in files:
        if not Path(os.path.realpath(file)).is_relative_to(root):
            message = "a link that points outside the model's folder"
            yield Problem(Location(escape_path(file)), message, "put the file itself there")
        elif file.name in MODEL_FILES and not file.is_file():
            yield Problem(Location(escape_path(file)), "not a regular file", "put the model itself there")


def _fingerprint(files: Sequence[Path]) -> str:
    """The sizes and modification times of the files: it changes with a file, and nothing is read."""
    stats = (file.stat() for file in files if file.exists())
    return " ".join(f"{stat.st_size}@{stat.st_mtime_ns}" for stat in stats)


def _is_data_set(path: Path) -> bool:
    return DATA_SET.fullmatch(path.name) is not None and path.is_dir()
