"""Inputs to draw for two models: in the declared dtypes and shapes, with small sizes for open axes.

An exporter drops inputs that it does not read. Such an input is drawn for the reference alone. The reference is run
with other values of it too: if its outputs depend on them, the file has lost an input that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.check.files.matching import FLOATING, SIGNED, InputsDoNotFit, NamedInput
from harness.check.files.reference import ReferenceAnswers
from harness.check.files.signatures import Declared, FileSignature
from harness.check.results import with_mismatch
from harness.compare.inconclusive import with_cause
from harness.compare.verdict import Comparison, compare_with_reference
from harness.model.answer import Reference
from harness.result import Result
from harness.spec.language.inputs.names import as_label
from harness.spec.language.schema import DType
from harness.spec.language.tolerances import Tolerance

Array = NDArray[Any]

BATCH, SEQUENCE, IMAGE = 3, 7, 64
"""Sizes of open axes: the first of an input, others, and those of an image of four axes or more.

Files are mostly exported with an example of one or two; a size that an export keeps shows at another one.
"""
MAX_MASK = 1 << 12
"""A larger mask is drawn at random: its values would make a saved spec long."""
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
    dropped = _dropped_inputs(subject, reference) if base is subject else []
    declared = [*(_with_counterpart(each, other, base) for each in base.inputs), *dropped]
    given = {as_label(name): (name, shape) for name, shape in (shapes or {}).items()}
    problems = [
        f"--shape {name}: no input has this name; the inputs are {', '.join(each.name for each in declared)}"
        for label, (name, _) in given.items()
        if label not in {as_label(each.name) for each in declared}
    ]
    problems += [
        f"{each.name}: the reference has no such input, and the file takes it; name a reference that takes it too"
        for each in _dropped_inputs(reference, subject)
        if base is reference
    ]
    if not base.has_names and not problems:
        problems.append("the inputs are not declared; give them")
    axes = _given_axes(declared, {label: shape for label, (_, shape) in given.items()})
    inputs: list[DrawnInput] = []
    for each in declared:
        label, is_dropped = as_label(each.name), each in dropped
        if is_dropped and each.dtype is None:
            each = _like_the_others(  # noqa: PLW2901 - as it is drawn
                each, [other.given for other in inputs], given.get(label, ("", None))[1]
            )
        if label not in given and each.shape is None:
            what = "no shape is declared, and the file has no such input" if is_dropped else "no shape is declared"
            problems.append(f"{each.name}: {what}; {advice.format(name=each.name)}")
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
        if (mask := _padding_mask(label, dtype, shape)) is not None and each.index_limit is None:
            entry, remark = {**entry, "values": mask}, f"{remark} as a mask of texts that end with padding"
            del entry["shape"], entry["fill"]
        inputs.append(DrawnInput(NamedInput(label, dtype, shape), entry, f"{remark}{_range_in_words(entry)}"))
    if problems:
        raise InputsDoNotFit(problems)
    return inputs


def _dropped_inputs(subject: FileSignature, reference: FileSignature) -> list[Declared]:
    """The inputs of ``reference`` that ``subject`` lacks; none if the names do not show which they are."""
    own = {as_label(each.name) for each in subject.inputs}
    others = [each for each in reference.inputs if as_label(each.name) not in own]
    return others if own and len(own) + len(others) == len(reference.inputs) else []


def _like_the_others(dropped: Declared, others: Sequence[NamedInput], shape: tuple[int, ...] | None) -> Declared:
    """``dropped`` like the inputs of the file where these are integers of one dtype and shape, as of a text.

    If a ``shape`` is given, those of this shape count.
    """
    kinds = {(each.dtype, each.shape) for each in others if shape is None or each.shape == shape}
    dtype, alike = kinds.pop() if len(kinds) == 1 else (None, None)
    return dropped if dtype is None or dtype.name not in SIGNED else replace(dropped, dtype=dtype, shape=alike)


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


def _padding_mask(label: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> list[Any] | None:
    """Rows of ones that end with zeros, each row shorter, for an input that is called a mask; None for others.

    Drawn at random, a mask may leave a position nothing to attend to. No two correct attentions agree there.
    """
    if (
        "mask" not in label.lower()
        or dtype.kind not in "biu"
        or len(shape) != 2
        or not 0 < shape[0] * shape[1] <= MAX_MASK
    ):
        return None
    rows, columns = shape
    lengths = [max(1, columns - row * columns // (rows + 1)) for row in range(rows)]
    mask: list[Any] = (np.arange(columns) < np.array(lengths)[:, None]).astype(dtype).tolist()
    return mask


def _range_in_words(entry: Mapping[str, Any]) -> str:
    """What the values of whole numbers are drawn from; whether others mean anything to the model is not known."""
    match entry.get("fill"):
        case {"integers": [0, 1]}:
            return " from 0 and 1; give --inputs for other values"
        case {"integers": [low, high]}:
            return f" from {low} to {high}"
        case {"choice": _}:
            return " from false and true"
    return ""


def _fill(declared: Declared, dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.name in FLOATING:
        return {}
    if dtype.name == "bool":
        return {"fill": {"choice": [False, True]}}
    if declared.index_limit is not None:
        return {"fill": {"integers": [0, declared.index_limit - 1]}}
    return {"fill": {"integers": [0, 255 if dtype.name == "uint8" else 1]}}


# Other values of an input that the file lacks

OTHER_VALUES = 3
"""How many other values of such an input the reference is run with."""


@dataclass(frozen=True, slots=True)
class LostInput:
    """An input that a file lacks and its reference's outputs depend on; ``difference`` is that of the outputs."""

    label: str
    difference: Comparison


def lost_input(
    dropped: Sequence[str],
    reference: ReferenceAnswers,
    as_the_file_gives: Callable[[Reference], Reference],
    tolerance: Tolerance,
) -> LostInput | None:
    """The first input of ``dropped`` whose values change the outputs by more than ``tolerance``; None if none does.

    Only values are changed: that a shape is read shows nowhere. Values that the reference refuses say nothing, and so
    does a reference that draws random numbers. ``as_the_file_gives`` renames outputs.
    """
    first = reference.references[0]
    own = None if first.stochastic or not dropped else reference.eager_answer(first.inputs)
    if own is None:
        return None
    unchanged = as_the_file_gives(replace(first, eager=own)).eager
    for label in dropped:
        for values in islice(_other_values(first.inputs[label]), OTHER_VALUES):
            answer = reference.eager_answer({**first.inputs, label: values})
            if answer is None:
                continue
            at = f"other values of {label}"
            other = replace(first, eager=answer, float64=None, lower=None, undefined=(), at=at)
            difference = compare_with_reference(unchanged, as_the_file_gives(other), tolerance)
            if not difference.passed:
                return LostInput(label, difference)
    return None


def _other_values(values: Array) -> Iterator[Array]:
    """Values of the same shape: floating ones larger, of the other sign or 0, integers turned, larger or all alike."""
    if values.dtype.name in FLOATING:
        candidates = [values + values.dtype.type(2), -values, np.zeros_like(values)]
    elif values.dtype.name == "bool":
        candidates = [~values, np.ones_like(values), np.zeros_like(values)]
    else:
        candidates = [np.flip(values), values + 1, np.zeros_like(values), np.ones_like(values)]
    for each in candidates:
        if not np.array_equal(each, values) and not np.isnan(each.astype(np.float64)).any():
            yield np.asarray(each)


def with_lost_input(result: Result, lost: LostInput, file: str) -> Result:
    """``result`` as the failure of a ``file`` that has lost an input."""
    cause = f"{file} has no input {lost.label}, and the outputs depend on it"
    failed = with_mismatch(result, [cause]) if result.status == "passed" else with_cause(result, cause)
    evidence = f"the reference gives other outputs {lost.difference.message}"
    return replace(failed, blame="exporter", evidence=(evidence,))
