"""Less asked of a case: expectations, open axes, further shapes, layouts, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.spec.case import Case, Expectation


def fewer_promises(case: Case) -> Iterator[Case]:
    """The case with one thing less to hold. What must raise stays: it is what such a case is about."""
    if case.expect.raises is None:
        yield replace(case, expect=Expectation())
    yield replace(case, also=(), dynamic={}, bench=())
    yield replace(case, also=(), bench=())
    for index in range(len(case.also)):
        yield replace(case, also=case.also[:index] + case.also[index + 1 :])
    for label in case.dynamic:
        yield replace(case, dynamic={other: axes for other, axes in case.dynamic.items() if other != label})
    for index, spec in enumerate(case.inputs):
        plain = replace(spec, layout="contiguous")
        yield replace(case, inputs=(*case.inputs[:index], plain, *case.inputs[index + 1 :]))
    yield replace(case, mode="eval")
    for name in case.model.weights:
        rest = {other: spec for other, spec in case.model.weights.items() if other != name}
        yield replace(case, model=replace(case.model, weights=rest))
    yield replace(case, seed=0)
