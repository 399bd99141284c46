"""Recorded models: folders that hold a model file and what it should answer, as ONNX's backend tests are kept.

    test_relu/
      model.onnx
      data.json                  optional: how far an answer may be from the recorded one
      test_data_set_0/
        input_0.pb               one protobuf for each input of the graph, in its order
        output_0.pb              and for each output

Nothing is decoded here: that needs onnx, and is done where the check runs. What stands outside the folder is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat

from harness.errors import Location, Problem, RequestError, SpecError, told
from harness.spec.language.case import Case, FileModel, WeightedModel
from harness.spec.language.schema import Rules
from harness.spec.language.tolerances import CaseTolerance, Close, Scaled
from harness.spec.yaml.reader import read
from harness.spec.yaml.strict import Strict, objection, validated

MODEL = "model.onnx"
MANIFEST = "data.json"
NUMBER = re.compile(r"[0-9]{1,9}")
DATA_SET = re.compile(r"test_data_set_[0-9]+")

BACKEND_RULE = Close(rtol=1e-3, atol=1e-7)
"""What ONNX's own backend tests are held to: the defaults of ``onnx.backend.test.loader``."""


def is_recorded(parent: Path, folders: Sequence[str], files: Sequence[str]) -> bool:
    """Whether ``parent``, with these ``folders`` and ``files`` in it, is a recorded model.

    Raises :class:`RequestError` where there is data for a model that is not there.
    """
    data_sets = any(DATA_SET.fullmatch(name) for name in folders)
    if data_sets and MODEL not in files:
        raise RequestError(f"{parent}: test data without its model; the model must stand beside it as {MODEL}")
    return data_sets


def recorded_case(folder: Path, case_id: str) -> Case:
    """The case of the recorded model in ``folder``.

    Raises :class:`SpecError` for a manifest that is wrong, and for a file that lies outside ``folder``.
    """
    data_sets = sorted(filter(_is_data_set, folder.iterdir()), key=lambda path: int(path.name.rpartition("_")[2]))
    files = [folder / MODEL, *(file for data_set in data_sets for file in sorted(data_set.glob("*.pb")))]
    if problems := list(_strays(folder, [*files, folder / MANIFEST])):
        raise SpecError(problems)
    about, tolerance = _manifest(folder / MANIFEST)
    return Case(
        id=case_id,
        about=about,
        model=WeightedModel(FileModel(str(folder / MODEL), tuple(map(str, data_sets)), _stamp(files))),
        inputs=(),
        where=Location(told(folder / MODEL)),
        tolerance=tolerance,
    )


def _by_number(value: Any) -> Any:
    """``by_output`` with numbers for keys: JSON can only write them as text."""
    if not isinstance(value, Mapping) or not isinstance(value.get("by_output"), Mapping):
        return value
    rules = {int(key) if NUMBER.fullmatch(str(key)) else key: rule for key, rule in value["by_output"].items()}
    return {**value, "by_output": rules}


def _measurable(tolerance: CaseTolerance) -> CaseTolerance:
    """Nothing is recorded of the terms that were added up."""
    if any(isinstance(rule, Scaled) for rule in (tolerance.rule, *tolerance.by_output.values())):
        raise objection("scaled needs the terms' magnitudes, which are not recorded", "write ulp, or rtol and atol")
    return tolerance


class _Manifest(Strict):
    """``data.json`` as ``onnx.backend.test.loader`` reads it, and beside it a tolerance in the words of a spec."""

    model_name: str = ""
    url: str | None = None
    about: str = ""
    rtol: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] | None = None
    atol: Annotated[NonNegativeFloat, Field(allow_inf_nan=False)] | None = None
    tolerance: Annotated[Rules, BeforeValidator(_by_number), AfterValidator(_measurable)] | None = None


def _manifest(path: Path) -> tuple[str, CaseTolerance]:
    """What the manifest says of the model, and the tolerance that it asks for; both empty where there is none."""
    if not path.exists():
        return "", CaseTolerance()
    told = validated(_Manifest, read(path))
    if told.tolerance is not None:
        return told.about, told.tolerance
    if told.rtol is None and told.atol is None:
        return told.about, CaseTolerance()
    rtol = BACKEND_RULE.rtol if told.rtol is None else told.rtol
    return told.about, CaseTolerance(Close(rtol, BACKEND_RULE.atol if told.atol is None else told.atol))


def _strays(folder: Path, files: Sequence[Path]) -> Iterator[Problem]:
    """The files that a link takes out of the folder, and a model that is a pipe and would be waited for."""
    # Not Path.resolve, which raises where a link leads to itself.
    inside = os.path.realpath(folder)
    for file in files:
        if not Path(os.path.realpath(file)).is_relative_to(inside):
            yield Problem(Location(told(file)), "a link out of the model's folder", "put the file itself there")
        elif file.name == MODEL and not file.is_file():
            yield Problem(Location(told(file)), "not a regular file", "put the model itself there")


def _stamp(files: Sequence[Path]) -> str:
    """Sizes and times of change: what is different once a file is, without reading it."""
    found = (file.stat() for file in files if file.exists())
    return " ".join(f"{one.st_size}@{one.st_mtime_ns}" for one in found)


def _is_data_set(path: Path) -> bool:
    return DATA_SET.fullmatch(path.name) is not None and path.is_dir()
