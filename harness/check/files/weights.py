"""The floating weights that a file and its reference store, paired by name: which differ, where and by how much.

A difference alone proves nothing: folding a BatchNorm into a convolution keeps the name of the weight and changes its
values (:mod:`harness.check.files.swapped_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.check.files.half_precision import stored_precision
from harness.check.files.reference import FileReference
from harness.data_files.onnx_files import names_read, stored_tensors
from harness.spec.language.case import StoredModel

Array = NDArray[Any]

CHUNK = 1 << 22
"""The values of a weight that are compared at once, so that a large one is never in memory as a whole."""
PROPORTIONAL = 1 - 1e-6
"""The square of the cosine of two rows from which on one is a multiple of the other, as folding makes them."""


@dataclass(frozen=True, slots=True)
class DifferingWeight:
    """A weight that differs from the reference's. ``where`` says in which values and by how much.

    ``reference`` are the reference's values in the layout of the file, which stores them as ``dtype``. ``other`` is
    true if most of its values differ, and not because each row, in the layout of the reference, is a multiple of the
    reference's, as folding makes them.
    """

    name: str
    where: str
    reference: Array
    dtype: np.dtype[Any]
    other: bool


@dataclass(frozen=True, slots=True)
class PairedWeights:
    """How many floating weights the file and the reference have in common, and those of them that differ.

    ``in_memory`` is true if the reference is a module that the caller has.
    """

    count: int
    differing: Sequence[DifferingWeight]
    in_memory: bool = False


def float_weights_of(reference: Any) -> Mapping[str, Array]:
    """The float tensors that a reference stores, by name: those of an ONNX file, or of a module; else none."""
    if not isinstance(reference, FileReference):
        from harness.model.weights import tensors_of_state

        state = tensors_of_state(reference.subject.module)
        return {name: each.detach().float().numpy() for name, each in state.items() if each.is_floating_point()}
    if reference.file.format != "onnx":
        return {}
    import onnx

    from harness.check.judging.quantized_weights import float_weights

    return float_weights(onnx.load(reference.file.path))


def paired_weights(file: StoredModel, reference: Any) -> PairedWeights:
    """The floating weights of ``file`` and of ``reference`` with the same name, and the same shape or its transpose."""
    in_memory = False
    if isinstance(reference, FileReference):
        others = _stored_in(reference.file)
    else:
        from harness.check.module.in_memory import InMemoryCase
        from harness.model.weights import tensors_of_state

        in_memory = isinstance(reference, InMemoryCase)
        others = _as_stored(_of_state(tensors_of_state(reference.subject.module)), stored_precision(reference.case))
    own = _stored_in(file) if others else {}
    count, differing = 0, []
    for name, values in own.items():
        if name not in others or not (views := _in_layout_of(values, others[name])):
            continue
        count += 1
        found = []
        for transposed, view in views:
            found.append(_difference(name, values, view, transposed=transposed))
            if found[-1] is None:
                break
        else:
            # A square matrix fits both ways: the layout is the one in which fewer values differ.
            differing.append(min((each for each in found if each is not None), key=lambda each: each[0])[1])
    read = _names_read(file) if differing and file.format == "onnx" else None
    return PairedWeights(count, [each for each in differing if read is None or each.name in read], in_memory)


def _names_read(file: StoredModel) -> set[str]:
    """What the nodes of an ONNX file read, and what it returns: no input reaches any other initializer."""
    import onnx

    graph = onnx.load(file.path, load_external_data=False).graph
    return {name for node in graph.node for name in names_read(node)} | {each.name for each in graph.output}


def _stored_in(file: StoredModel) -> Mapping[str, Array]:
    """The floating weights that a model file stores, by name."""
    if file.format == "onnx":
        return {name: each for name, each in stored_tensors(Path(file.path)).items() if _is_floating(each.dtype)}
    if file.format not in {"torchscript", "program"}:
        return {}
    import torch

    from harness.model.user_modules import load_torchscript
    from harness.model.weights import tensors_of_state

    if file.format == "program":
        return _of_state(torch.export.load(file.path).state_dict)
    return _of_state(tensors_of_state(load_torchscript(file.path)))


def _of_state(state: Mapping[str, Any]) -> Mapping[str, Array]:
    from harness.model.tensors import to_numpy

    return {
        name: each.detach().numpy() if each.dtype.itemsize in {4, 8} and each.device.type == "cpu" else to_numpy(each)
        for name, each in state.items()
        if each.is_floating_point()
    }


def _as_stored(state: Mapping[str, Array], dtype: str | None) -> Mapping[str, Array]:
    """``state`` with the weights in the 16-bit ``dtype`` in which their file has them: those that are exact in it."""
    if dtype is None:
        return state
    narrowed = {name: each.astype(np.dtype(dtype)) for name, each in state.items()}
    return {
        name: narrow if np.array_equal(narrow.astype(state[name].dtype), state[name]) else state[name]
        for name, narrow in narrowed.items()
    }


def _is_floating(dtype: np.dtype[Any]) -> bool:
    return dtype.name in {"float16", "bfloat16", "float32", "float64"}


def _in_layout_of(values: Array, other: Array) -> list[tuple[bool, Array]]:
    """``other`` as it is and transposed, as far as that has the shape of ``values``; True for the transposed one."""
    views = [(False, other)]
    if other.ndim >= 2:  # exporters make a MatMul of a Linear, with the transposed weight
        views.append((True, other.swapaxes(-1, -2)))
    return [(at, view) for at, view in views if view.shape == values.shape and view.size]


def _difference(name: str, own: Array, other: Array, *, transposed: bool) -> tuple[int, DifferingWeight] | None:
    """How many values differ by more than a rounding to the narrower dtype, and where; None if none do.

    Both have the layout of the file; ``transposed`` is true if the reference's is the other one, which is shown.
    """
    own, values = np.atleast_1d(own), np.atleast_1d(other)
    infos = [ml_dtypes.finfo(each.dtype) for each in (own, values)]  # type: ignore[no-untyped-call]
    share = max(float(each.eps) for each in infos)
    # A converter may round the smallest numbers of a dtype to zero or away from it.
    least = 2 * max(float(each.smallest_subnormal) for each in infos)
    rows = max(1, CHUNK * len(own) // own.size)
    wrong_at = [np.zeros(length, dtype=bool) for length in own.shape]
    count, squares, scale, scaled = 0, 0.0, 0.0, own.ndim > 1
    for start in range(0, len(own), rows):
        stored, expected = own[start : start + rows], values[start : start + rows]
        with np.errstate(over="ignore"):
            if np.array_equal(stored, expected.astype(own.dtype, copy=False)):
                continue
        stored, expected = stored.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore"):
            near = np.abs(stored - expected) <= share * np.maximum(np.abs(stored), np.abs(expected)) + least
        wrong = ~(near | (stored == expected) | (np.isnan(stored) & np.isnan(expected)))
        if not wrong.any():
            continue
        count += int(np.count_nonzero(wrong))
        for axis, each in enumerate(wrong_at):
            found = wrong.any(axis=tuple(at for at in range(own.ndim) if at != axis))
            part = each[start : start + rows] if axis == 0 else each
            part |= found
        with np.errstate(invalid="ignore", over="ignore"):
            squares += float(np.square(stored[wrong] - expected[wrong]).sum())
            scale += float(np.square(expected[wrong]).sum())
            sides = [each.swapaxes(-1, -2) if transposed else each for each in (stored, expected)]
            scaled = scaled and _are_multiples(*sides)
    if not count:
        return None
    shown = [*wrong_at[:-2], wrong_at[-1], wrong_at[-2]] if transposed else wrong_at
    where = f"{_place(shown, count, own.size)} ({_size(squares, scale)})"
    return count, DifferingWeight(name, where, other, own.dtype, 2 * count > own.size and not scaled)


def _are_multiples(stored: Array, expected: Array) -> bool:
    """True if each row of one is a multiple of the same row of the other."""
    one, two = stored.reshape(len(stored), -1), expected.reshape(len(expected), -1)
    products = np.square((one * two).sum(axis=1))
    return bool((products >= PROPORTIONAL * np.square(one).sum(axis=1) * np.square(two).sum(axis=1)).all())


def _place(wrong_at: Sequence[Array], count: int, size: int) -> str:
    """Where values differ: at one index of one axis, counted from 0, or in how many of all."""
    if len(wrong_at) > 1 and count > 1:
        names = ("row", "column") if len(wrong_at) == 2 else tuple(f"axis {at}, index" for at in range(len(wrong_at)))
        for name, wrong in zip(names, wrong_at, strict=True):
            if len(wrong) > 1 and np.count_nonzero(wrong) == 1:
                return f"in {name} {int(np.argmax(wrong)):,} of {len(wrong):,}"
    if count == 1 and size > 1:
        return f"at {[int(np.argmax(each)) for each in wrong_at]}"
    return f"in {count:,} of {size:,} values"


def _size(squares: float, scale: float) -> str:
    """The RMS difference of the values that differ, as a share of the RMS of the reference's."""
    if not np.isfinite(squares) or not np.isfinite(scale):
        return "NaN or infinite"
    return f"by {100 * np.sqrt(squares / scale):.3g} %" if scale else "0 in the reference"
