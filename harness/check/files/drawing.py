"""Inputs to draw for two models: in the declared dtypes and shapes, with small sizes for open axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from harness.check.files.matching import FLOATING, InputsDoNotFit, NamedInput
from harness.check.files.signatures import Declared, FileSignature
from harness.spec.language.inputs.names import as_label
from harness.spec.language.schema import DType

BATCH, SEQUENCE, IMAGE = 3, 7, 64
"""Sizes of open axes: the first of an input, others, and those of an image of four axes or more.

Files are mostly exported with an example of one or two; a size that an export keeps shows at another one.
"""
CASE_DTYPES = frozenset(get_args(DType))


@dataclass(frozen=True, slots=True)
class DrawnInput:
    """An input to draw: ``entry`` is what a spec writes for it, ``remark`` tells what was chosen."""

    given: NamedInput
    entry: Mapping[str, Any]
    remark: str


def drawn_inputs(
    subject: FileSignature,
    reference: FileSignature,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    *,
    advice: str = "give inputs",
) -> list[DrawnInput]:
    """The inputs to draw, in the order of the side that declares more.

    ``shapes`` replace declared ones by name, and set the axes that other inputs share with them. ``advice`` says what
    to do where no shape is declared. Raises :class:`InputsDoNotFit` for each input that cannot be drawn.
    """
    base, other = (reference, subject) if _is_declared(reference) else (subject, reference)
    if not base.has_names:
        base, other = other, base
    declared = [_with_counterpart(each, other, base) for each in base.inputs]
    given = {as_label(name): (name, shape) for name, shape in (shapes or {}).items()}
    problems = [
        f"--shape {name}: no input has this name; the inputs are {', '.join(each.name for each in declared)}"
        for label, (name, _) in given.items()
        if label not in {as_label(each.name) for each in declared}
    ]
    if not base.has_names and not problems:
        problems.append("the inputs are not declared; give them")
    axes = _given_axes(declared, {label: shape for label, (_, shape) in given.items()})
    inputs: list[DrawnInput] = []
    for each in declared:
        label = as_label(each.name)
        if label not in given and each.shape is None:
            problems.append(f"{each.name}: no shape is declared; {advice.format(name=each.name)}")
            continue
        dtype = in_dtype_of(reference, each.dtype or np.dtype(np.float32))
        if dtype.name not in CASE_DTYPES:
            problems.append(f"{each.name}: {dtype.name} cannot be drawn; give inputs")
            continue
        remark = ""
        if label in given:
            shape = given[label][1]
        else:
            shape, chosen = _closed(each.shape or (), axes)
            remark = f" (open axes: {chosen})" if chosen else ""
        entry = {
            "shape": list(shape),
            **({} if dtype.name == "float32" else {"dtype": dtype.name}),
            **_fill(each, dtype),
        }
        fill = f" from {entry['fill']}" if "fill" in entry else ""
        inputs.append(DrawnInput(NamedInput(label, dtype, shape), entry, f"{remark}{fill}"))
    if problems:
        raise InputsDoNotFit(problems)
    return inputs


def _given_axes(declared: Sequence[Declared], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The sizes of named axes that the ``given`` shapes set, by label, for the inputs that share these axes."""
    axes: dict[str, int] = {}
    for each in declared:
        shape = given.get(as_label(each.name), ())
        if each.shape is not None and len(shape) == len(each.shape):
            for name, size in zip(each.shape, shape, strict=True):
                if isinstance(name, str) and name:
                    axes.setdefault(name, size)
    return axes


def in_dtype_of(reference: FileSignature, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """``dtype``, or that of the reference's weights: a module takes no other floating inputs, a file is converted for.

    A reference that declares its inputs has what it declares.
    """
    floating, is_declared = reference.floating, any(each.dtype is not None for each in reference.inputs)
    return dtype if floating is None or is_declared or dtype.name not in FLOATING else floating


def _is_declared(signature: FileSignature) -> bool:
    return signature.has_names and all(each.dtype is not None and each.shape is not None for each in signature.inputs)


def _with_counterpart(declared: Declared, other: FileSignature, own: FileSignature) -> Declared:
    """``declared`` with what only the other side declares of the same input: its dtype, and sizes of open axes."""
    counterpart = next((each for each in other.inputs if as_label(each.name) == as_label(declared.name)), None)
    if counterpart is None and len(other.inputs) == len(own.inputs):
        counterpart = other.inputs[own.inputs.index(declared)]
    if counterpart is None:
        return declared
    limits = [each for each in (declared.index_limit, counterpart.index_limit) if each is not None]
    declared = replace(declared, dtype=declared.dtype or counterpart.dtype, index_limit=min(limits, default=None))
    if declared.shape is None:
        return replace(declared, shape=counterpart.shape)
    if counterpart.shape is None or len(counterpart.shape) != len(declared.shape):
        return declared
    sizes = (
        theirs if ours is None or (isinstance(theirs, int) and not isinstance(ours, int)) else ours
        for ours, theirs in zip(declared.shape, counterpart.shape, strict=True)
    )
    return replace(declared, shape=tuple(sizes))


def _closed(shape: Sequence[Any], axes: dict[str, int]) -> tuple[tuple[int, ...], str]:
    """``shape`` with small sizes for open axes, and which were chosen. ``axes`` has the sizes of names so far."""
    sizes, chosen = [], []
    for at, size in enumerate(shape):
        if isinstance(size, int):
            sizes.append(size)
            continue
        small = BATCH if at == 0 else IMAGE if len(shape) > 3 else SEQUENCE
        sizes.append(axes.setdefault(size, small) if size else small)
        chosen.append(f"{size or f'axis {at}'}={sizes[-1]}")
    return tuple(sizes), ", ".join(chosen)


def _fill(declared: Declared, dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.name in FLOATING:
        return {}
    if dtype.name == "bool":
        return {"fill": {"choice": [False, True]}}
    if declared.index_limit is not None:
        return {"fill": {"integers": [0, declared.index_limit - 1]}}
    return {"fill": {"integers": [0, 255 if dtype.name == "uint8" else 1]}}
