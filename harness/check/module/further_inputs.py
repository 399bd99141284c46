"""Inputs beside those of a case, at which a module may do something else than at the case's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.check.cache.memo import Memo
from harness.check.judging.example_values import OtherInputs, OtherKind, about_equal
from harness.check.module.other_values import alike_inputs, bounds_of, other_inputs, other_integers
from harness.model.answer import Reference
from harness.model.build import Subject
from harness.model.reaching import Threshold
from harness.model.reference import compute_reference
from harness.model.running import run_module
from harness.model.tensors import copy_module, to_numpy, to_torch
from harness.model.thresholds import reaching_inputs, recorded
from harness.spec.language.case import Case

Array = NDArray[Any]
Inputs = Mapping[str, Array]

IMAGE_AXES = 4
"""The axes of a batch of images."""
LARGE_SIZE = 129
"""A size of dynamic axes that is larger than most that a module branches on."""
MAX_AXES = 4
"""How many open axes are tried with one element, one by one."""
MAX_ELEMENTS = 1 << 16
"""Inputs at larger sizes hold at most this many elements each, or as many as the case's own."""


@dataclass(frozen=True, slots=True)
class FurtherInputs:
    """The further inputs of a case with eager torch's answers, each computed once.

    ``quietly`` calls a function and returns None if the code under test raises.
    """

    case: Case
    subject: Subject
    references: tuple[Reference, ...]
    memo: Memo
    quietly: Callable[..., Any]

    def of(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Those of ``kinds``, as far as eager torch takes them."""
        first = self.references[0].inputs
        axes = _axes_of_names(self.case.dynamic)[:MAX_AXES]
        if "promised sizes" in kinds:
            yield from self._at_one([each for each in axes if _are_first(each)], "promised sizes")
        if "sizes" in kinds:
            yield from self._at_one([each for each in axes if not _are_first(each)], "sizes")
            yield from self._at_sizes(first)
        changes: Mapping[OtherKind, Any] = {"values": other_inputs, "integers": other_integers}
        for kind, change in changes.items():
            for name, inputs in change(first, bounds_of(self.case.inputs)) if kind in kinds else ():
                if any(not np.array_equal(values, first[label]) for label, values in inputs.items()):
                    yield from self.answered(name, inputs, kind)
        for name, inputs in alike_inputs(first) if "alike" in kinds else ():
            if any(not np.array_equal(values, first[label]) for label, values in inputs.items()):
                yield from self.answered(name, inputs, "alike")
        if "thresholds" in kinds:
            for name, inputs in self.memo.get("inputs that reach thresholds", self._reaching):
                yield from self.answered(name, inputs, "thresholds")

    def at_open_axes(self, axes: Mapping[str, Collection[int]]) -> Iterator[OtherInputs]:
        """Inputs that a file has to take which declares ``axes`` open, by label, as far as eager torch takes them.

        Axes of one size may be the same axis under two names, and change together. There is one set of one element
        along the first axes, one along other axes, and one with all axes one larger. Height and width of an image
        stay: many models take multiples of a size only, and a detector resizes any image to hundreds of pixels.
        """
        first = self.references[0].inputs
        axes = {
            label: [axis for axis in own if axis == 0 or not _is_image(first[label], own)]
            for label, own in axes.items()
        }
        axes = {label: own for label, own in axes.items() if own}
        if not axes:
            return
        groups: dict[tuple[bool, int], dict[str, list[int]]] = {}
        for label, axis in ((label, axis) for label, own in axes.items() for axis in own):
            group = groups.setdefault((axis == 0, first[label].shape[axis]), {})
            group.setdefault(label, []).append(axis)
        masks = {label for label, values in first.items() if values.dtype.kind in "biu" and not np.any(values > 1)}
        # A mask of one element may leave nothing.
        yield from self._at_one(
            [each for (is_first, _), each in groups.items() if is_first or masks.isdisjoint(each)][:MAX_AXES],
            "promised sizes",
            must_run=True,
        )
        name, inputs = _sizes_on_axes(first, axes, lambda size: size + 1)
        if _shapes(inputs) not in [_shapes(each.inputs) for each in self.references]:
            yield from self.answered(name, inputs, "promised sizes", must_run=True)

    def _at_one(
        self, axes: Sequence[Mapping[str, Collection[int]]], kind: OtherKind, *, must_run: bool = False
    ) -> Iterator[OtherInputs]:
        """Inputs with one element along the axes of each of ``axes``."""
        first, known = self.references[0].inputs, [_shapes(each.inputs) for each in self.references]
        for each in axes:
            name, inputs = _sizes_on_axes(first, each, lambda _: 1)
            if _shapes(inputs) not in known:
                yield from self.answered(name, inputs, kind, must_run=must_run)

    def _reference(self, name: str, inputs: Inputs, kind: OtherKind) -> Reference | None:
        compute = partial(compute_reference, self.case, self.subject, tensors_of(inputs), name)
        reference: Reference | None = self.memo.get(f"reference at {name} ({kind})", partial(self.quietly, compute))
        return None if reference is None or reference.stochastic else reference

    def answered(self, name: str, inputs: Inputs, kind: OtherKind, *, must_run: bool = False) -> Iterator[OtherInputs]:
        """Inputs with eager torch's answer; none if it refuses them."""
        # State that is kept beyond a threshold shows at a later call alone, which the module may refuse.
        rows = [[inputs, self.references[0].inputs], [inputs]] if kind == "thresholds" else [[inputs]]
        answered = (self.quietly(self.eager_answers, row) for row in rows)
        answers = self.memo.get(f"eager at {name} ({kind})", lambda: next(filter(None, answered), None))
        if answers is not None:
            eager, *later = answers
            after = next((each for each in later if not about_equal(each, self.references[0].eager)), None)
            reference = partial(self._reference, name, inputs, kind)
            yield OtherInputs(name, inputs, eager, reference, kind, after, must_run)

    def eager_answers(self, row: Sequence[Inputs]) -> list[dict[str, Array]]:
        """Eager torch's answers to calls of one copy in a row. Errors of the module pass through."""
        copied = copy_module(self.subject.module)
        answers = []
        for inputs in row:
            outputs = run_module(copied, list(tensors_of(inputs).values()), self.case.seed)
            answers.append({f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)})
        return answers

    @property
    def thresholds(self) -> list[Threshold]:
        """The numbers that eager torch compares its values with at the first inputs."""
        found = self.quietly(partial(recorded, self.subject.module, self.references[0].inputs, seed=self.case.seed))
        return [*(found or {}).values()]

    def _reaching(self) -> list[tuple[str, Inputs]]:
        # Sets at other sizes would run other operators.
        sets = [each.inputs for each in self.references if _shapes(each.inputs) == _shapes(self.references[0].inputs)]
        return list(self.quietly(_listed, partial(reaching_inputs, self.subject.module, sets, self.case.seed)) or ())

    def _at_sizes(self, first: Inputs) -> Iterator[OtherInputs]:
        """Inputs with the dynamic axes one larger, unless the case has further sizes, and at the largest size taken."""
        dynamic = self.case.dynamic
        if not dynamic:
            return
        known = {str(_shapes(each.inputs)) for each in self.references}
        if len(known) == 1:
            yield from self.answered(*_resized(first, dynamic, lambda size: size + 1), "sizes")
        for size_of in (lambda size: max(4 * size + 1, LARGE_SIZE), lambda size: 4 * size + 1, lambda size: 2 * size):
            name, inputs = _resized(first, dynamic, size_of)
            if any(values.size > max(MAX_ELEMENTS, first[label].size) for label, values in inputs.items()):
                continue
            if answered := list(self.answered(name, inputs, "sizes")):
                yield from answered
                return


def _listed(make: Callable[[], Iterator[Any]]) -> list[Any]:
    return list(make())


def _shapes(inputs: Inputs) -> dict[str, tuple[int, ...]]:
    return {label: values.shape for label, values in inputs.items()}


def _resized(
    inputs: Inputs, dynamic: Mapping[str, Mapping[int, str]], size_of: Callable[[int], int]
) -> tuple[str, Inputs]:
    """Inputs with other sizes of the dynamic axes, drawn from the values of ``inputs``, and their name."""
    random = np.random.default_rng(0)
    resized: dict[str, Array] = {}
    for label, values in inputs.items():
        shape = tuple(
            size_of(size) if axis in dynamic.get(label, ()) else size for axis, size in enumerate(values.shape)
        )
        resized[label] = (
            values if shape == values.shape or not values.size else random.choice(values.reshape(-1), shape)
        )
    return ", ".join(f"{label}={list(resized[label].shape)}" for label in dynamic if label in resized), resized


def tensors_of(inputs: Inputs) -> dict[str, torch.Tensor]:
    """The inputs as tensors by label, in the memory layout that they have."""
    return {label: to_torch(values, None) for label, values in inputs.items()}


def _sizes_on_axes(
    inputs: Inputs, axes: Mapping[str, Collection[int]], size_of: Callable[[int], int]
) -> tuple[str, Inputs]:
    """``inputs`` with other sizes of ``axes``: the first elements along each, or all of them and the first again."""
    resized = dict(inputs)
    for label, own in axes.items():
        for axis in own:
            size = resized[label].shape[axis]
            if size:
                resized[label] = resized[label].take(np.arange(size_of(size)) % size, axis)
    return ", ".join(f"{label}={list(resized[label].shape)}" for label in axes), resized


def _axes_of_names(dynamic: Mapping[str, Mapping[int, str]]) -> list[dict[str, list[int]]]:
    """The axes of each name, by label: the axes of one name have one size."""
    by_name: dict[str, dict[str, list[int]]] = {}
    for label, names in dynamic.items():
        for axis, name in names.items():
            by_name.setdefault(name, {}).setdefault(label, []).append(axis)
    return list(by_name.values())


def _is_image(values: Array, open_axes: Collection[int]) -> bool:
    """True for an input with height and width: of four axes or more, or of three and without an open first one."""
    return values.ndim >= IMAGE_AXES or (values.ndim == IMAGE_AXES - 1 and 0 not in open_axes and len(open_axes) > 1)


def _are_first(axes: Mapping[str, Collection[int]]) -> bool:
    return all(axis == 0 for own in axes.values() for axis in own)
