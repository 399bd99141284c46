"""The sets of inputs that an artifact is verified at, and how the random values of the further ones are chosen.

A user's module may branch on its inputs' values, or read a number from them: the sign of a sum, the largest element,
its position, how many elements are positive. A draw that agrees with the first one in all of these shows nothing. So
each further draw is the best of some candidates, each drawn from the fill that the spec names: the one that differs
from the first draw in most :func:`features`. Candidates have seeds derived from the case's own, so the choice is the
same everywhere. Layers of torch never branch on values, so their first candidate is as good as any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.language.case import Case, InputSet, TensorSpec, seed_from_name
from harness.spec.language.inputs.fills import array

Array = NDArray[Any]

MAX_CANDIDATES = 12
"""Each feature differs in about half of all draws. The most important ones differ in one of twelve nearly always."""
MIN_CANDIDATES = 4
CANDIDATE_ELEMENTS = 2**16
"""Of a tensor with more elements than this, only :data:`MIN_CANDIDATES` are drawn."""
MAX_ELEMENTS = 2**22
"""A larger tensor has one candidate: drawing it takes longer than it can tell."""
SUM_WEIGHT = 4
"""How many other features the sign of the sum (or of the mean) is worth: it is what models branch on most."""


def input_sets(case: Case) -> tuple[InputSet, ...]:
    """The inputs that an artifact of ``case`` is verified at: the case's own first, which it is exported with.

    No two sets share random values, so that a value which an export keeps from its example inputs shows.
    """
    first, *others = _plain_sets(case)
    if not case.runs_user_code:
        return (first, *others)
    return (first, *(_with_chosen_seeds(each, first) for each in others))


def input_set_count(case: Case) -> int:
    """The number of :func:`input_sets`. No values are drawn to know it."""
    return len(_plain_sets(case))


def features(values: Array) -> tuple[Any, ...]:
    """What a model may branch on or read from ``values`` as a number; the sign of the sum comes first."""
    flat = np.ravel(values).astype(np.float64)
    if not flat.size:
        return ()
    with np.errstate(all="ignore"):
        positive = int(np.count_nonzero(flat > 0))
        largest, smallest = float(flat.max()), float(flat.min())
        return (
            np.sign(flat.sum()),
            np.sign(flat[0]),
            np.sign(flat[-1]),
            np.sign(smallest),
            np.sign(largest),
            int(flat.argmax()),
            int(flat.argmin()),
            positive,
            int(np.count_nonzero(flat)),
            float(np.trunc(largest)),
            float(np.trunc(smallest)),
            flat[0] > flat[-1],
            f"{np.linalg.norm(flat):.2g}",
        )


def _plain_sets(case: Case) -> list[InputSet]:
    """The sets of inputs, each with the seed of its name."""
    sets = []
    for shapes in ({}, *(case.also or _larger_shapes(case))):
        at = ", ".join(f"{label}={list(shape)}" for label, shape in shapes.items())
        inputs = tuple(replace(spec, shape=shapes.get(spec.label, spec.shape)) for spec in case.inputs)
        draws = case.draws if any(spec.is_random for spec in inputs) else 1
        for draw in range(1, draws + 1):
            name = ", ".join(filter(None, [at, f"draw {draw}" if draw > 1 else ""]))
            seeded = tuple(replace(spec, seed=_seed_of(spec, name)) if name else spec for spec in inputs)
            sets.append(InputSet(seeded, name or None, draw, chosen_by_harness=bool(shapes) and not case.also))
    if case.data is not None:  # these are run one by one, after the sets
        return sets
    return sets + [InputSet(inputs, f"sample {name}") for name, inputs in case.samples]


def _larger_shapes(case: Case) -> tuple[Mapping[str, tuple[int, ...]], ...]:
    """A further set of shapes for dynamic axes without ``also``: every dynamic axis one larger."""
    if any(spec.is_literal for spec in case.inputs if spec.label in case.dynamic) or not case.dynamic:
        return ()
    return (
        {
            spec.label: tuple(size + (axis in case.dynamic.get(spec.label, ())) for axis, size in enumerate(spec.shape))
            for spec in case.inputs
        },
    )


def _seed_of(spec: TensorSpec, input_set: str, candidate: int = 0) -> int:
    return seed_from_name(f"{spec.seed} {input_set}" + (f", candidate {candidate}" if candidate else ""))


def _with_chosen_seeds(further: InputSet, first: InputSet) -> InputSet:
    chosen = (_chosen(spec, original) for spec, original in zip(further.inputs, first.inputs, strict=True))
    return replace(further, inputs=tuple(chosen))


@lru_cache(maxsize=256)
def _chosen(spec: TensorSpec, first: TensorSpec) -> TensorSpec:
    """``spec`` with that candidate's seed whose values differ from those of ``first`` in most features."""
    elements = prod(spec.shape)
    if not spec.is_random or not elements or max(elements, prod(first.shape)) > MAX_ELEMENTS:
        return spec
    of_first, weights = features(array(first)), (SUM_WEIGHT, *[1] * 20)

    def differing(candidate: TensorSpec) -> int:
        compared = zip(features(array(candidate)), of_first, weights, strict=False)
        return sum(weight for one, other, weight in compared if one != other)

    return max(_candidates(spec, MAX_CANDIDATES if elements <= CANDIDATE_ELEMENTS else MIN_CANDIDATES), key=differing)


def _candidates(spec: TensorSpec, count: int) -> Iterator[TensorSpec]:
    yield spec
    for number in range(1, count):
        yield replace(spec, seed=_seed_of(spec, "", number))
