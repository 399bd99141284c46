"""Match a case's inputs and a reference's outputs with those that a file declares.

Inputs are matched by name, then by dtype and rank where only one fits, else by order where the file declares no more
than names and none of them is a label. What cannot be told is asked for, with both signatures. Nothing is guessed in
silence: each match that is not by name, each conversion and each change of layout is a note of the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.files.signatures import Declared, FileSignature
from harness.errors import StageError
from harness.spec.language.inputs.names import as_label

USE_NAMES = "use the file's own names for the inputs"
EXPORT_WITH_NAMES = "export the file again with the reference's names (input_names), which show what it lacks"
Array = NDArray[Any]
Answer = Mapping[str, Array]

FLOATING = frozenset({"float16", "bfloat16", "float32", "float64"})
SIGNED = frozenset({"int8", "int16", "int32", "int64"})
TO_CHANNELS_LAST: Mapping[int, tuple[int, ...]] = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
TO_CHANNELS_FIRST: Mapping[int, tuple[int, ...]] = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


@dataclass(frozen=True, slots=True)
class NamedInput:
    """An input of the case."""

    label: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.label} {self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Binding:
    """The input ``label`` of the case as the file's input ``name``, in ``dtype``, with its axes permuted."""

    label: str
    name: str
    dtype: np.dtype[Any] | None = None
    permutation: tuple[int, ...] | None = None

    def applied_to(self, values: Array) -> Array:
        """The values as the file takes them."""
        if self.dtype is not None:
            values = values.astype(self.dtype)
        return values if self.permutation is None else np.ascontiguousarray(values.transpose(self.permutation))


@dataclass(frozen=True, slots=True)
class MatchedInputs:
    """The bindings in the order of the file's inputs, what is not by name or unchanged, and the inputs it lacks."""

    bindings: tuple[Binding, ...]
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def applied_to(self, inputs: Answer) -> dict[str, Array]:
        """The case's inputs under the file's names, as the file takes them."""
        return {each.name: each.applied_to(inputs[each.label]) for each in self.bindings}


@dataclass
class _Matching:
    """The matching so far: pairs of a label and a declared input, and what is left on both sides."""

    given: list[NamedInput]
    declared: list[Declared]
    pairs: list[tuple[NamedInput, Declared]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def pair(self, given: NamedInput, declared: Declared) -> None:
        self.given.remove(given)
        self.declared.remove(declared)
        self.pairs.append((given, declared))


class InputsDoNotFit(StageError):
    """The inputs do not fit the file; ``problems`` has one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def match_inputs(
    given: Sequence[NamedInput], signature: FileSignature, file: str, *, may_drop: bool = False
) -> MatchedInputs:
    """Match the inputs ``given`` with those of the file, which messages call ``file``.

    With ``may_drop`` the file may lack inputs, if all that it has are matched by name. Raises :class:`InputsDoNotFit`
    with every problem.
    """
    if not signature.has_names:
        return MatchedInputs(tuple(Binding(each.label, each.label) for each in given))
    matching = _Matching(list(given), list(signature.inputs))
    _match_by_name(matching, str)
    _match_by_name(matching, as_label)
    dropped = _drop_others(matching, file) if may_drop else ()
    _match_by_kind(matching, file)
    _match_by_order(matching, file, none_by_name=not matching.pairs)
    problems = [*_unmatched(matching, given, signature, file, may_drop=may_drop)]
    bindings: dict[str, Binding] = {}
    for each, other in matching.pairs:
        if other.dtype is None and signature.floating is not None and each.dtype.name in FLOATING:
            other = replace(other, dtype=signature.floating)  # noqa: PLW2901 - a module takes the dtype of its weights
        binding, problem, note = _bind(each, other, file)
        bindings[other.name] = binding
        problems += [problem] if problem else []
        matching.notes += [note] if note else []
    problems += _contradicting_axes(matching.pairs, bindings, file)
    if problems:
        raise InputsDoNotFit(problems)
    return MatchedInputs(tuple(bindings[each.name] for each in signature.inputs), tuple(matching.notes), dropped)


def _match_by_name(matching: _Matching, spelled: Callable[[str], str]) -> None:
    for each in list(matching.given):
        label = spelled(each.label)
        other = next((other for other in matching.declared if spelled(other.name) == label), None)
        if other is not None:
            matching.pair(each, other)


def _drop_others(matching: _Matching, file: str) -> tuple[str, ...]:
    """Leave out the inputs that the file lacks, where the names show which they are; their labels."""
    if not matching.pairs or matching.declared or not matching.given:
        return ()
    labels = tuple(each.label for each in matching.given)
    matching.notes += [
        f"{each} is no input of {file}: an exporter drops inputs that it does not read" for each in labels
    ]
    matching.given.clear()
    return labels


def _match_by_kind(matching: _Matching, file: str) -> None:
    """Pair what is left where a dtype and rank occur once on both sides."""
    for other in list(matching.declared):
        if other.dtype is None or other.shape is None:
            continue
        fitting = [each for each in matching.given if _kind(each.dtype, each.shape) == _kind(other.dtype, other.shape)]
        rivals = [
            each
            for each in matching.declared
            if each.dtype is not None
            and each.shape is not None
            and _kind(each.dtype, each.shape) == _kind(other.dtype, other.shape)
        ]
        if len(fitting) == len(rivals) == 1:
            kind = f"{other.dtype.name} input with {len(other.shape)} {'axis' if len(other.shape) == 1 else 'axes'}"
            matching.notes.append(f"{fitting[0].label} is {other.name} in {file}, the only {kind}")
            matching.pair(fitting[0], other)


def _kind(dtype: np.dtype[Any], shape: Sequence[Any]) -> tuple[str, int]:
    family = next((name for name, dtypes in (("f", FLOATING), ("i", SIGNED)) if dtype.name in dtypes), dtype.name)
    return family, len(shape)


def _match_by_order(matching: _Matching, file: str, *, none_by_name: bool) -> None:
    """Pair what is left by order, if the file declares names alone and none of them is a label, or one is left."""
    undeclared = all(each.dtype is None for each in matching.declared)
    if not undeclared or len(matching.given) != len(matching.declared):
        return
    if not (none_by_name or len(matching.given) == 1):
        return
    for each, other in list(zip(matching.given, matching.declared, strict=True)):
        matching.notes.append(f"{each.label} is {other.name} in {file}, by order")
        matching.pair(each, other)


def _unmatched(
    matching: _Matching, given: Sequence[NamedInput], signature: FileSignature, file: str, *, may_drop: bool
) -> Iterator[str]:
    if not matching.given and not matching.declared:
        return
    both = f"the inputs are ({', '.join(map(str, given))}), {file} takes {signature}"
    missing = ", ".join(each.name for each in matching.declared)
    extra = ", ".join(each.label for each in matching.given)
    if missing and extra:
        alike = len(given) == len(signature.inputs)
        yield f"cannot tell which of {extra} is {missing}: {both}; {USE_NAMES if alike else EXPORT_WITH_NAMES}"
    elif missing:
        yield f"no input for {missing}: {both}; give one"
    else:
        advice = f"; {EXPORT_WITH_NAMES}" if may_drop and signature.inputs else ""
        yield f"{file} has no input {extra}: {both}{advice}"


def _bind(given: NamedInput, declared: Declared, file: str) -> tuple[Binding, str | None, str | None]:
    """The binding, what is wrong with it, and a note on what is changed for it."""
    dtype = permutation = problem = None
    notes = []
    if declared.dtype is not None and declared.dtype != given.dtype:
        if not any({given.dtype.name, declared.dtype.name} <= family for family in (FLOATING, SIGNED)):
            problem = f"{given.label} is {given.dtype.name}, and {file} takes {declared}"
        dtype = declared.dtype
        notes.append(f"{given.label} is converted from {given.dtype.name} to {declared.dtype.name} for {file}")
    if declared.shape is not None and not _fits(given.shape, declared.shape):
        permutation = _layout_change(given.shape, declared.shape)
        if permutation is None:
            wrong = f"has shape {list(given.shape)}" if problem is None else f"is {given.dtype.name}{list(given.shape)}"
            problem = f"{given.label} {wrong}, and {file} takes {declared}"
        else:
            layouts = ("NCHW", "NHWC") if permutation == TO_CHANNELS_LAST.get(len(given.shape)) else ("NHWC", "NCHW")
            notes.append(
                f"{given.label} is transposed from {list(given.shape)} ({layouts[0]}) to "
                f"{[given.shape[axis] for axis in permutation]} ({layouts[1]}) for {file}"
            )
    return Binding(given.label, declared.name, dtype, permutation), problem, "; ".join(notes) or None


def _fits(shape: Sequence[int], declared: Sequence[Any]) -> bool:
    return len(shape) == len(declared) and all(
        size == known for size, known in zip(shape, declared, strict=True) if isinstance(known, int)
    )


def _layout_change(shape: tuple[int, ...], declared: Sequence[Any]) -> tuple[int, ...] | None:
    """The move of the channels that makes ``shape`` fit; None if there is none, or a shape of 3 axes leaves it open."""
    if len(shape) < 4 or len(shape) != len(declared):
        return None
    for moves in (TO_CHANNELS_LAST, TO_CHANNELS_FIRST):
        permutation = moves.get(len(shape))
        if permutation is not None and _fits([shape[axis] for axis in permutation], declared):
            return permutation
    return None


def _contradicting_axes(
    pairs: Sequence[tuple[NamedInput, Declared]], bindings: Mapping[str, Binding], file: str
) -> Iterator[str]:
    """Open axes of one name that would have two sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for given, declared in pairs:
        if declared.shape is None or len(declared.shape) != len(given.shape):
            continue
        permutation = bindings[declared.name].permutation or range(len(given.shape))
        for axis, name in zip(permutation, declared.shape, strict=True):
            if not isinstance(name, str):
                continue
            size, label = sizes.setdefault(name, (given.shape[axis], given.label))
            if size != given.shape[axis]:
                sizes_given = f"{size} in {label} and {given.shape[axis]} in {given.label}"
                yield f"axis {name} of {file} is {sizes_given}; give both the same size"


@dataclass(frozen=True, slots=True)
class MatchedOutputs:
    """For each output of the file, the reference's output that it is compared with; None for one too many.

    ``missing`` are the outputs of the reference that the file lacks.
    """

    reference: Mapping[str, str | None]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def renamed(self, answer: Answer) -> dict[str, Array]:
        """The reference's ``answer`` under the file's names, in the file's order; missing outputs come last."""
        found = {name: answer[own] for name, own in self.reference.items() if own is not None and own in answer}
        return found | {own: answer[own] for own in self.missing if own in answer}

    def order(self, reference: Sequence[str]) -> list[int]:
        """The index in ``reference`` of each output of :meth:`renamed`."""
        names = [own for own in self.reference.values() if own is not None]
        return [list(reference).index(own) for own in (*names, *self.missing) if own in reference]


def match_outputs(
    declared: Sequence[str] | None, reference: Sequence[str], file: str, paths: Sequence[str] = ()
) -> MatchedOutputs:
    """Pair the outputs of the file with the reference's.

    They are paired by name if one side has all names of the other, else by order. ``declared`` is None if the file
    names no outputs. ``paths`` are where a module's outputs are in what it returns, and are names too, as
    ``past.0.key`` and as ``past_0_key``.
    """
    outputs = numbered_outputs(len(reference)) if declared is None else list(declared)
    labels = [as_label(path) for path in paths]
    own = next(
        (
            dict(zip(names, reference, strict=True))
            for names in (reference, paths, labels)
            if len(set(names)) == len(reference) and (set(names) <= set(outputs) or set(outputs) <= set(names))
        ),
        None,
    )
    if own is not None:
        pairs: dict[str, str | None] = {name: own.get(name) for name in outputs}
        lacking = [name for name in own if name not in outputs]
        missing = tuple(own[name] for name in lacking)
        reordered = [name for name in outputs if name in own] != [name for name in own if name in outputs]
        note = (
            f"{file} returns its outputs in another order ({', '.join(outputs)}) than the reference "
            f"({', '.join(own)}); they are paired by name"
        )
        notes: tuple[str, ...] = (note,) if reordered else ()
    else:
        pairs = dict(zip(outputs, reference, strict=False)) | dict.fromkeys(outputs[len(reference) :])
        missing = tuple(reference[len(outputs) :])
        lacking = list(missing)
        notes = (_by_order(outputs, reference, file),)
    extra = ", ".join(name for name, other in pairs.items() if other is None)
    notes += (f"{file} has outputs that the reference lacks: {extra}",) if extra else ()
    notes += (f"{file} lacks outputs of the reference: {', '.join(lacking)}",) if lacking else ()
    return MatchedOutputs(pairs, missing, notes)


def _by_order(outputs: Sequence[str], reference: Sequence[str], file: str) -> str:
    """The note on outputs that are paired by order."""
    numbered = numbered_outputs(max(len(outputs), len(reference)))
    if list(reference) == numbered[: len(reference)]:
        return f"the reference's outputs have no names; those of {file} are paired by order: {', '.join(outputs)}"
    if list(outputs) == numbered[: len(outputs)]:
        return f"the outputs of {file} have no names; the reference's are paired by order: {', '.join(reference)}"
    pairs = ", ".join(f"{name} with {own}" for name, own in zip(outputs, reference, strict=False))
    return f"the outputs have other names in {file} than in the reference; they are paired by order: {pairs}"


def numbered_outputs(count: int) -> list[str]:
    """The names of outputs that have none: ``output_0``, ``output_1``, ..."""
    return [f"output_{index}" for index in range(count)]


def reordered(arrays: Sequence[Array | None], order: Sequence[int]) -> Sequence[Array | None]:
    """``arrays``, one for each output of the reference or none at all, in ``order``."""
    return [arrays[at] for at in order] if len(arrays) > max(order, default=-1) else arrays
