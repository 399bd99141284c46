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
from harness.check.judging.example_values import (
    OtherInputs,
    OtherKind,
    about_equal,
    other_inputs,
    turned,
)
from harness.model.answer import Reference
from harness.model.build import Subject
from harness.model.reference import compute_reference
from harness.model.running import run_module
from harness.model.tensors import copy_module, to_numpy, to_torch
from harness.model.thresholds import reaching_inputs
from harness.spec.language.case import Case

Array = NDArray[Any]
Inputs = Mapping[str, Array]

LARGE_SIZE = 129
"""A size of dynamic axes that is larger than most that a module branches on."""
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
        if "sizes" in kinds:
            yield from self._at_sizes(first)
        if "values" in kinds:
            for name, inputs in other_inputs(first):
                if any(not np.array_equal(values, first[label]) for label, values in inputs.items()):
                    yield from self._answered(name, inputs, "values")
        for name, inputs in alike_inputs(first) if "alike" in kinds else ():
            if any(not np.array_equal(values, first[label]) for label, values in inputs.items()):
                yield from self._answered(name, inputs, "alike")
        if "thresholds" in kinds:
            for name, inputs in self.memo.get("inputs that reach thresholds", self._reaching):
                yield from self._answered(name, inputs, "thresholds")

    def _reference(self, name: str, inputs: Inputs) -> Reference | None:
        compute = partial(compute_reference, self.case, self.subject, tensors_of(inputs), name)
        reference: Reference | None = self.memo.get(f"reference at {name}", partial(self.quietly, compute))
        return None if reference is None or reference.stochastic else reference

    def _answered(self, name: str, inputs: Inputs, kind: OtherKind) -> Iterator[OtherInputs]:
        # State that is kept beyond a threshold shows at a later call alone, which the module may refuse.
        rows = [[inputs, self.references[0].inputs], [inputs]] if kind == "thresholds" else [[inputs]]
        answered = (self.quietly(self.eager_answers, row) for row in rows)
        answers = self.memo.get(f"eager at {name}", lambda: next(filter(None, answered), None))
        if answers is not None:
            eager, *later = answers
            after = next((each for each in later if not about_equal(each, self.references[0].eager)), None)
            yield OtherInputs(name, inputs, eager, partial(self._reference, name, inputs), kind, after)

    def eager_answers(self, row: Sequence[Inputs]) -> list[dict[str, Array]]:
        """Eager torch's answers to calls of one copy in a row. Errors of the module pass through."""
        copied = copy_module(self.subject.module)
        answers = []
        for inputs in row:
            outputs = run_module(copied, list(tensors_of(inputs).values()), self.case.seed)
            answers.append({f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)})
        return answers

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
            yield from self._answered(*_resized(first, dynamic, lambda size: size + 1), "sizes")
        for size_of in (lambda size: max(4 * size + 1, LARGE_SIZE), lambda size: 4 * size + 1, lambda size: 2 * size):
            name, inputs = _resized(first, dynamic, size_of)
            if any(values.size > max(MAX_ELEMENTS, first[label].size) for label, values in inputs.items()):
                continue
            if answered := list(self._answered(name, inputs, "sizes")):
                yield from answered
                return


def alike_inputs(inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Inputs as they could have been instead: of the opposite sign, in another order, and drawn anew.

    Integers and booleans stay in the range of their own values, as in
    :func:`harness.check.judging.example_values.other_inputs`.
    """
    random = np.random.default_rng(0)
    yield "inputs of the opposite sign", {label: np.asarray(turned(values)) for label, values in inputs.items()}
    yield (
        "inputs in another order",
        {label: random.permutation(values.reshape(-1)).reshape(values.shape) for label, values in inputs.items()},
    )
    yield "inputs drawn anew", {label: _drawn_anew(values, random) for label, values in inputs.items()}


def _drawn_anew(values: Array, random: np.random.Generator) -> Array:
    if not values.size or values.dtype.kind in "iub":
        return random.permutation(turned(values).reshape(-1)).reshape(values.shape)
    known = values.astype(np.float64)
    known = known[np.isfinite(known)]
    mean, deviation = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
    return (mean + (deviation or 1.0) * random.standard_normal(values.shape)).astype(values.dtype)


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
