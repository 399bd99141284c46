"""The layers of a packed model, read on a machine without torch.

:mod:`harness.check.recorded.packing_layers` writes them: one JSON file for each set of inputs of an export. It holds
every call of a layer in order, and for each tensor whose value was found in the exported file: the name of that value,
the reference's own values, and the float64 values, of the layer alone and as they accumulate. The arrays are files of
the bundle, named by their content.

Float64 values are stored as their difference from the reference's in float32: what is lost is less than a millionth of
the reference's own error, and the files are half as large.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from harness.inside.calls import (
    MAX_ARGUMENTS,
    Array,
    Call,
    Match,
    NotVisible,
    Recording,
    ValueStore,
    Visit,
)
from harness.spec.bundle.entries import PACK_AGAIN, Index, OutputShape, RelativePath
from harness.spec.yaml.strict import StrictModel, file_error, invalid_value, key_path, read_json

if TYPE_CHECKING:
    from typing_extensions import Self

    from harness.inside.program import Traced

NONE_PACKED = "the bundle has no layers of this case; harness pack --layers adds those of whole models"
OTHER_CUTS = "no float64 values of the layers: this runtime shows other values of the file than the one that packed it"
SHOWN = 20
"""The layers without values that are named; all are counted."""

Kind = Literal["alone", "whole"]
"""The float64 values of a layer on the reference's own inputs, and those of the whole model."""


# What a file holds


class CallEntry(StrictModel):
    """One call; the fields are those of :class:`harness.inside.calls.Call`."""

    path: str
    type: str
    number: Index = 0
    arguments: Annotated[str, Field(max_length=MAX_ARGUMENTS + 3)] = ""
    inputs: list[Index]
    outputs: list[Index]


class ValueEntry(StrictModel):
    """A tensor that belongs to the value ``name`` of the file. ``alone`` and ``whole`` are None without float64."""

    number: Index
    name: str
    how: str
    values: RelativePath
    alone: RelativePath | None = None
    whole: RelativePath | None = None


class OperationEntry(StrictModel):
    """An operation of the reference; the fields are those of :class:`harness.inside.program.Operation`."""

    name: str
    shapes: list[OutputShape]


class PlaceEntry(StrictModel):
    """The output, of the operation with the number ``operation``, that a tensor is."""

    number: Index
    operation: Index
    output: Index


class LayersEntry(StrictModel):
    """The layers at one set of inputs.

    ``reason`` says why there are none. ``shapes`` has the shape of each tensor. ``left_out`` are the tensors whose
    values did not fit into ``max_bytes``, with those at the sets of inputs before. ``no_float64`` says why float64
    values are missing. ``operations`` and ``places`` are only there for a file that torch runs.
    """

    reason: str | None = None
    calls: list[CallEntry] = Field(default_factory=list)
    shapes: list[OutputShape] = Field(default_factory=list)
    inputs: list[Index] = Field(default_factory=list)
    results: list[Index] = Field(default_factory=list)
    values: list[ValueEntry] = Field(default_factory=list)
    left_out: list[Index] = Field(default_factory=list)
    max_bytes: Index = 0
    no_float64: dict[Kind, str] = Field(default_factory=dict)
    operations: list[OperationEntry] = Field(default_factory=list)
    places: list[PlaceEntry] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        used = [number for call in self.calls for number in (*call.inputs, *call.outputs)]
        used += [*self.inputs, *self.results, *self.left_out]
        used += [*(each.number for each in self.values), *(each.number for each in self.places)]
        if max(used, default=-1) >= len(self.shapes):
            raise invalid_value(f"there are {len(self.shapes)} tensors, and number {max(used)} is used", PACK_AGAIN)
        if len({each.number for each in self.values}) < len(self.values):
            raise invalid_value("a tensor appears twice", PACK_AGAIN)
        return self

    @property
    def files(self) -> Iterator[str]:
        """Every array that the entry refers to."""
        for each in self.values:
            yield from (path for path in (each.values, each.alone, each.whole) if path is not None)

    @property
    def not_packed(self) -> str | None:
        """The layers whose values were left out, in words; None if there are none."""
        left = set(self.left_out)
        names = [call.path or call.type for call in self.calls if left.intersection(call.outputs)]
        if not names:
            return None
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        limit = self.max_bytes
        size = f"{limit:,} bytes" if limit < 2**20 else f"{limit / 2**20:.4g} MiB"
        return (
            f"the values of {len(names)} of {len(self.calls)} rows are not in the bundle, since they did not fit into "
            f"{size} (harness pack --layers-limit): {', '.join(names[:SHOWN])}{more}"
        )


# Read them


def read_layers(path: Path) -> LayersEntry:
    """The layers in the file at ``path``. Raises :class:`SpecError` of one line if it does not hold any."""
    raw = read_json(path, "the layers", PACK_AGAIN)
    try:
        return LayersEntry.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise file_error(path, f"{key_path(first['loc'])}: {first['msg']}", PACK_AGAIN) from error


class PackedInside:
    """The inside of a reference whose layers are in ``path``, a file of the bundle at ``folder``.

    It is a :class:`harness.inside.calls.ReferenceInside`. Raises :class:`NotVisible` if the layers were not packed.
    """

    def __init__(self, folder: Path, path: str, store: ValueStore) -> None:
        self._folder, self._entry = folder, read_layers(folder / path)
        if self._entry.reason is not None:
            raise NotVisible(self._entry.reason)
        self.matched = {each.number: Match(each.name, each.how) for each in self._entry.values}
        self.notes = () if (left := self._entry.not_packed) is None else (left,)
        self.recording = self._recorded(store)

    def float64(self, cuts: frozenset[int], visit: Visit) -> None:
        """See :class:`harness.inside.calls.ReferenceInside`. The values are those of the layers that were packed."""
        if cuts and cuts != self.matched.keys():
            raise NotVisible(OTHER_CUTS)
        kind: Kind = "alone" if cuts else "whole"
        for each in self._entry.values:
            path = each.alone if kind == "alone" else each.whole
            if path is not None:
                visit(each.number, restored(self._read(path, each.number), self.recording.values(each.number)))
        if kind in self._entry.no_float64:
            raise NotVisible(self._entry.no_float64[kind])

    @property
    def traced(self) -> Traced | None:
        """The operations of the reference, for a file that torch runs; None for another."""
        if not self._entry.operations:
            return None
        from harness.inside.program import Operation, Traced

        shapes = ((each.name, tuple(map(tuple, each.shapes))) for each in self._entry.operations)
        places = {each.number: (each.operation, each.output) for each in self._entry.places}
        return Traced([Operation(name, each, 0.0) for name, each in shapes], places)

    def _recorded(self, store: ValueStore) -> Recording:
        entry, recording = self._entry, Recording(store)
        for number, shape in enumerate(entry.shapes):
            recording.add("")
            recording.shapes[number] = tuple(shape)
        for each in entry.values:
            recording.keys[each.number] = store.put(self._read(each.values, each.number))
        recording.inputs, recording.results = tuple(entry.inputs), tuple(entry.results)
        recording.calls = [
            Call(each.path, each.path, each.type, each.number, each.arguments, tuple(each.inputs), tuple(each.outputs))
            for each in entry.calls
        ]
        return recording

    def _read(self, path: str, number: int) -> Array:
        from harness.check.recorded.protobufs import read_tensor  # the entries are also read where onnx is not loaded

        values = read_tensor(self._folder / path)
        if values.shape != tuple(self._entry.shapes[number]):
            raise file_error(self._folder / path, "its shape is not the one of the layer's output", PACK_AGAIN)
        return values


# Float64 values


def difference_from(float64: Array, own: Array) -> Array:
    """``float64`` less ``own`` in float32; ``float64`` itself where that does not show it."""
    float64, wide = np.asarray(float64), own.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (float64 == wide) | (np.isnan(float64) & np.isnan(wide))
        difference = np.where(same, 0, float64 - wide).astype(np.float32)
        shown = restored(difference, own)
    finite = np.isfinite(float64)
    shows_others = np.array_equal(shown[~finite], float64[~finite], equal_nan=True)
    return difference if shows_others and np.isfinite(shown[finite]).all() else float64


def restored(packed: Array, own: Array) -> Array:
    """The float64 values that :func:`difference_from` made ``packed`` of."""
    if packed.dtype == np.float64:
        return packed
    with np.errstate(all="ignore"):
        return np.asarray(own.astype(np.float64) + packed)
