"""What a spec says must hold -> an :class:`Expectation`, once every expression and tensor in it makes sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.errors import Problem, RequestError
from harness.spec.language import models, tensors
from harness.spec.language.case import Expectation
from harness.spec.language.expressions import compile_expression
from harness.spec.language.schema import ONLY, Case
from harness.spec.quoting import listed_names, suggestion
from harness.spec.signatures import layers
from harness.spec.yaml.tree import Node

OUTPUT = "y"
FIRST_INPUT = "x"
PARAMETERS = frozenset({"weight", "bias", "running_mean", "running_var", "in_proj_weight", "in_proj_bias"})
OF_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?")


def expectation(case: Case, drawn_from: str) -> Expectation:
    """The expectation; what belongs to no label belongs to the first input."""
    expect, first = case.expect, next(iter(case.inputs), ONLY)
    outputs = (
        None
        if expect.outputs is None
        else tuple(
            tensors.tensor(f"output_{index}", spec, case.dtype, drawn_from) for index, spec in enumerate(expect.outputs)
        )
    )
    equals, differs = expect.equals, expect.differs_from
    return Expectation(
        outputs=outputs,
        shape=None if expect.shape is None else tuple(map(tuple, expect.shape)),
        range=expect.range,
        formula=expect.formula,
        gradient={name or first: text for name, text in (expect.gradient or {}).items()},
        gradient_range=expect.gradient_range,
        equals=None if equals is None else models.weighted(equals, case.dtype, f"{drawn_from}/equals"),
        differs_from=None if differs is None else models.weighted(differs, case.dtype, f"{drawn_from}/differs_from"),
        raises=expect.raises,
    )


def problems(node: Node, case: Case, *, allow_import: bool) -> Iterator[Problem]:
    """What is wrong under ``expect``; ``node`` is the case."""
    expect, held = case.expect, node.child("expect")
    if held is None:
        return
    for index, spec in enumerate(expect.outputs or ()):
        yield from tensors.problems((held.child("outputs") or held).child(index) or held, spec, case.dtype)
    for key, model in (("equals", expect.equals), ("differs_from", expect.differs_from)):
        if model is not None:
            there = held.child(key) or held
            yield from models.call_problems(there)
            yield from models.problems(there, model, list(case.inputs), case.dtype, allow_import=allow_import)
    texts = [(["formula"], expect.formula)] if expect.formula else []
    texts += [(["gradient", name] if name else ["gradient"], text) for name, text in (expect.gradient or {}).items()]
    names = _names(case)
    for path, text in texts:
        try:
            compile_expression(text, names)
        except RequestError as error:
            wrong, _, right = str(error).partition("; ")
            yield Problem(held.place(path), f"{path[0]}: {wrong}", right)
    if texts and OUTPUT in case.inputs:
        where = node.place(["inputs", OUTPUT], of_key=True)
        yield Problem(where, "y: in expressions y is the output", "give the input another label")
    yield from _gradient_names(held, case)


def _gradient_names(held: Node, case: Case) -> Iterator[Problem]:
    """Gradients by something that is neither an input nor, as far as can be told, a parameter."""
    known = {*case.inputs, *case.weights, ONLY}
    for name in case.expect.gradient or ():
        if case.layer is not None and name not in known | PARAMETERS and not OF_RECURRENT.fullmatch(name):
            right = suggestion(name, known | PARAMETERS, f"an input ({listed_names(case.inputs)}) or a parameter")
            yield Problem(held.place(["gradient", name], of_key=True), f"{name}: no input and no parameter", right)


def _names(case: Case) -> Sequence[str] | None:
    """What an expression may speak of; None where only the user's own module knows its parameters."""
    if case.factory is not None:
        return None
    signature = layers().get(case.layer or "")
    arguments = signature.parameters if signature else ()
    recurrent = [name for name in case.weights if OF_RECURRENT.fullmatch(name)]
    return [*case.inputs, *case.weights, *arguments, *recurrent, *PARAMETERS, FIRST_INPUT, OUTPUT]
