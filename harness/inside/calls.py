"""What a reference records of its own run: every call of its layers in order, with the tensors that they pass on.

A tensor has a number, and :class:`ValueStore` keeps its values. Values are kept in memory up to a bound, and on disk
beyond it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import number_format

Array = NDArray[Any]
Visit = Callable[[int, Array], None]
"""Called with the number of a tensor and its values."""

MAX_BYTES = 2**28
"""Bytes of values that a store keeps in memory, and that one run of a graph returns."""

CLOSE = {2: 3e-2, 4: 2e-4, 8: 2e-4}
"""The RMS difference up to which values are the same tensor, as a share of their RMS, by the bytes of an element."""

ROUNDING = {2: 16.0, 4: 64.0, 8: 64.0}
"""The RMS difference that one operation explains, in eps times the RMS of the values, by the bytes of an element."""

CLOSE_IF_QUANTIZED = 0.1
"""The same for a file that rounds its values to a grid of 256 numbers."""

MAX_ARGUMENTS = 200
"""Characters of a layer's arguments that are kept."""

FUNCTIONAL = "functional"
"""The type of a row for what no layer computes: functions that the code of a module around the layers calls."""


class NotVisible(Exception):
    """The inside of a model cannot be seen; the text is the reason."""


class ValueStore:
    """Arrays by key. Beyond ``max_bytes`` in memory they are written to ``folder`` and mapped from there."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes, self.folder = max_bytes, folder
        self._in_memory = 0
        self._arrays: dict[str, Array] = {}

    def put(self, values: Array) -> str:
        """Keep ``values``; equal ones have the same key and are kept once."""
        values = np.ascontiguousarray(values).reshape(values.shape)
        key = self.key_of(values)
        if key not in self._arrays:
            self._arrays[key] = self._kept(key, values)
        return key

    def key_of(self, values: Array) -> str:
        """The key that :meth:`put` gives to ``values``."""
        digest = hashlib.blake2b(f"{values.dtype} {values.shape}".encode(), digest_size=16)
        if values.dtype.hasobject:
            digest.update(repr(values.tolist()).encode())
        else:
            digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def __getitem__(self, key: str) -> Array:
        return self._arrays[key]

    def _kept(self, key: str, values: Array) -> Array:
        if values.dtype.hasobject or not values.nbytes or self._in_memory + values.nbytes <= self.max_bytes:
            self._in_memory += values.nbytes
            return values
        path = self.folder / f"{key}.values"
        values.reshape(-1).view(np.uint8).tofile(path)
        mapped = np.memmap(path, np.uint8, "r", shape=(values.nbytes,))
        return mapped.view(values.dtype).reshape(values.shape)


class Closeness:
    """Whether values in a store are the same but for rounding. What is measured of an array is measured once.

    ``share`` is a difference that counts as rounding, too.
    """

    def __init__(self, store: ValueStore, share: float = 0.0) -> None:
        self._store, self._share = store, share
        self._moments: dict[str, tuple[float, float]] = {}

    def are_close(self, key: str, expected: str) -> bool:
        """True if two arrays of one shape differ by at most :data:`CLOSE`, and are finite at the same places."""
        return self.distance(key, expected) < math.inf

    def distance(self, key: str, expected: str) -> float:
        """The RMS difference of two arrays of one shape as a share of the RMS; infinite if they are not close."""
        shares = [CLOSE.get(self._store[each].dtype.itemsize, min(CLOSE.values())) for each in (key, expected)]
        share = max(self._share, *shares)
        (mean, spread), (own_mean, own_spread) = self._measured(key), self._measured(expected)
        bound = 2 * share * (own_spread + abs(own_mean))
        if abs(mean - own_mean) > bound or abs(spread - own_spread) > bound:
            return math.inf
        values, reference = (self._store[each].astype(np.float64) for each in (key, expected))
        finite = np.isfinite(reference)
        if not np.array_equal(np.isfinite(values), finite) or not finite.any():
            return math.inf
        error = float(np.sqrt(np.mean(np.square(values[finite] - reference[finite]))))
        scale = float(np.sqrt(np.mean(np.square(reference[finite]))))
        return error / scale if scale and error <= share * scale else 0.0 if not error else math.inf

    def agree(self, key: str, expected: str) -> bool:
        """True if two arrays are the same but for what one operation rounds: far less than :data:`CLOSE`."""
        return self.difference(key, expected) <= self.rounding(key, expected)

    def rounding(self, key: str, expected: str) -> float:
        """The :meth:`difference` that one operation explains."""
        if self._share:
            return self._share
        dtypes = [self._store[each].dtype for each in (key, expected)]
        eps = [(form.eps, dtype.itemsize) for dtype in dtypes if (form := number_format(dtype)) is not None]
        return max((ROUNDING.get(size, 64.0) * each for each, size in eps), default=0.0)

    def difference(self, key: str, expected: str) -> float:
        """The RMS difference as a share of the expected RMS; infinite if NaN or infinities are at other places."""
        if key == expected:
            return 0.0
        values, reference = (np.asarray(self._store[each], np.float64) for each in (key, expected))
        if values.shape != reference.shape:
            return math.inf
        finite = np.isfinite(reference)
        if not np.array_equal(np.isfinite(values), finite):
            return math.inf
        error = float(np.sqrt(np.sum(np.square(values[finite] - reference[finite]))))
        scale = float(np.sqrt(np.sum(np.square(reference[finite]))))
        return error / scale if scale else math.inf if error else 0.0

    def spread(self, key: str) -> float:
        """The standard deviation of the finite values."""
        return self._measured(key)[1]

    def _measured(self, key: str) -> tuple[float, float]:
        """The mean and the standard deviation of the finite values."""
        if key not in self._moments:
            values = self._store[key].astype(np.float64)
            finite = values[np.isfinite(values)]
            self._moments[key] = (float(finite.mean()), float(finite.std())) if finite.size else (0.0, 0.0)
        return self._moments[key]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer, or one value that functions outside every layer compute (:data:`FUNCTIONAL`).

    ``path`` is where the layer is in the model, ``scope`` where it is in the exported module. ``number`` counts the
    calls of one layer from 0. ``inputs`` and ``outputs`` are numbers of tensors; an output that is an input is passed
    on unchanged. ``scope`` of a function is the module in whose code it is.
    """

    path: str
    scope: str
    type: str
    number: int = 0
    arguments: str = ""
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    @property
    def is_functional(self) -> bool:
        """True if no layer computes the outputs."""
        return self.type == FUNCTIONAL

    @property
    def new_outputs(self) -> tuple[int, ...]:
        """The outputs that are no inputs."""
        return tuple(number for number in self.outputs if number not in self.inputs)


@dataclass
class Recording:
    """The run of a reference: its ``calls`` in order, and the key of each tensor in ``store``.

    ``names`` are the tensors' own names, if the reference has such. ``inputs`` and ``results`` are the numbers of the
    model's inputs and outputs. A tensor whose values are not known has an empty key, and its shape in ``shapes``.
    """

    store: ValueStore
    calls: list[Call] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    results: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, key: str, name: str = "") -> int:
        """A new tensor with the values under ``key``; its number."""
        self.keys.append(key)
        self.names.append(name)
        return len(self.keys) - 1

    def values(self, number: int) -> Array:
        """The values of a tensor."""
        return self.store[self.keys[number]]

    def shape(self, number: int) -> tuple[int, ...]:
        """The shape of a tensor, also of one whose values are not known."""
        return self.shapes[number] if number in self.shapes else self.values(number).shape

    def makers(self) -> dict[int, Call]:
        """The call that computes each tensor."""
        return {number: call for call in self.calls for number in call.new_outputs}


@dataclass(frozen=True, slots=True)
class Match:
    """The value of a file that belongs to a tensor of the reference, and how it was found."""

    name: str
    how: str


class ReferenceInside(Protocol):
    """A reference that shows its inside."""

    @property
    def recording(self) -> Recording:
        """The run of the reference as it is."""
        ...

    @property
    def matched(self) -> Mapping[int, Match] | None:
        """The values of the file under test by the numbers of the tensors; None if they are to be searched."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known about the table of this reference."""
        ...

    def float64(self, cuts: frozenset[int], visit: Visit) -> None:
        """Run the reference in float64 and visit each tensor once, when it is computed.

        A tensor in ``cuts`` is then replaced by the one that was recorded, so that the next layer begins with the
        reference's own values. Raises :class:`NotVisible` if there is no float64 run.
        """
        ...


class SubjectInside(Protocol):
    """A model under test that gives the values of tensors of its reference."""

    def paired(self, recording: Recording) -> Pairing:
        """The values that belong to tensors of the reference."""
        ...

    def evaluated(self, number: int) -> Array | str:
        """A matched tensor as the file defines it, computed in float64 from the reference's own tensors.

        The reason as text if nothing can evaluate the file, or if the evaluation is not believed.
        """
        ...

    @property
    def is_program(self) -> bool:
        """True if torch runs the file, so that there are no kernels but torch's own."""
        ...

    @property
    def quantizes(self) -> bool:
        """True if the file rounds values to a grid, so that float64 is no measure for its layers."""
        ...


@dataclass
class Pairing:
    """The values of a subject that belong to tensors of the reference, by number.

    ``accumulated`` and ``local`` are keys in the store: as the subject computes them from the model's inputs, and from
    the reference's own tensors. ``how`` says how each tensor was matched, with which of the subject's ``names``.
    ``nodes`` are those that compute a tensor from other matched ones, and ``seconds`` their time. ``nonfinite`` has the
    first node that computes a NaN or an infinity which the reference's tensor does not have. ``uncovered`` are nodes
    that compute no matched tensor.
    """

    accumulated: dict[int, str] = field(default_factory=dict)
    local: dict[int, str] = field(default_factory=dict)
    how: dict[int, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    nodes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    nonfinite: dict[int, str] = field(default_factory=dict)
    uncovered: tuple[str, ...] = ()


def shortened_arguments(arguments: Iterable[str]) -> str:
    """The arguments of a call in one text, cut after :data:`MAX_ARGUMENTS` characters."""
    text = ", ".join(arguments)
    return text if len(text) <= MAX_ARGUMENTS else f"{text[:MAX_ARGUMENTS]}..."
