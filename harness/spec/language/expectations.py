"""The ``expect`` of a case: its problems, and the :class:`Expectation` made from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.errors import Problem, RequestError
from harness.spec.expressions import compile_expression
from harness.spec.language import layer_calls, models
from harness.spec.language.case import Expectation
from harness.spec.language.data import SpecFolder
from harness.spec.language.inputs import tensors
from harness.spec.language.schema import UNLABELED, Case, WeightsFile
from harness.spec.quoting import join_names, suggestion
from harness.spec.signatures import layer_signatures
from harness.spec.yaml.tree import Node

OUTPUT = "y"
FIRST_INPUT = "x"
PARAMETERS = frozenset({"weight", "bias", "running_mean", "running_var", "in_proj_weight", "in_proj_bias"})
RECURRENT_PARAMETER = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?")


def expectation(case: Case, seed_name: str, folder: SpecFolder) -> Expectation:
    """The expectation as data; a gradient without a label belongs to the first input."""
    expect, first = case.expect, next(iter(case.inputs), UNLABELED)
    outputs = (
        None
        if expect.outputs is None
        else tuple(
            tensors.tensor_spec(f"output_{index}", tensor, case.dtype, seed_name, folder)
            for index, tensor in enumerate(expect.outputs)
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
        equals=None if equals is None else models.weighted_model(equals, case.dtype, f"{seed_name}/equals", folder),
        differs_from=(
            None if differs is None else models.weighted_model(differs, case.dtype, f"{seed_name}/differs_from", folder)
        ),
        raises=expect.raises,
    )


def problems(
    node: Node, case: Case, folder: SpecFolder, labels: Sequence[str], *, allow_import: bool
) -> Iterator[Problem]:
    """The problems of the ``expect`` of the case at ``node``; ``labels`` are those that a model is called with."""
    expect, expect_node = case.expect, node.child("expect")
    if expect_node is None:
        return
    outputs_node = expect_node.child("outputs") or expect_node
    for index, tensor in enumerate(expect.outputs or ()):
        yield from tensors.problems(outputs_node.child(index) or expect_node, tensor, case.dtype, folder)
    for key, model in (("equals", expect.equals), ("differs_from", expect.differs_from)):
        if model is not None:
            model_node = expect_node.child(key) or expect_node
            yield from layer_calls.call_problems(model_node)
            yield from models.problems(model_node, model, labels, case.dtype, folder, allow_import=allow_import)
    yield from _expression_problems(node, expect_node, case)
    yield from _gradient_name_problems(expect_node, case)


def _expression_problems(node: Node, expect_node: Node, case: Case) -> Iterator[Problem]:
    """Invalid expressions, and an input with the name that the output has in expressions."""
    expect = case.expect
    texts = [(["formula"], expect.formula)] if expect.formula else []
    texts += [(["gradient", name] if name else ["gradient"], text) for name, text in (expect.gradient or {}).items()]
    names = _expression_names(case)
    for path, text in texts:
        try:
            compile_expression(text, names)
        except RequestError as error:
            message, _, remedy = str(error).partition("; ")
            yield Problem(expect_node.location(path), f"{path[0]}: {message}", remedy)
    if texts and OUTPUT in case.inputs:
        where = node.location(["inputs", OUTPUT], of_key=True)
        yield Problem(where, "y: in expressions y is the output", "give the input another label")


def _gradient_name_problems(expect_node: Node, case: Case) -> Iterator[Problem]:
    """Gradients with respect to a name that is neither an input nor, as far as is known here, a parameter."""
    names = {*case.inputs, *_weight_names(case), UNLABELED} | PARAMETERS
    for name in case.expect.gradient or ():
        if case.layer is not None and name not in names and not RECURRENT_PARAMETER.fullmatch(name):
            remedy = suggestion(name, names, f"name an input ({join_names(case.inputs)}) or a parameter")
            where = expect_node.location(["gradient", name], of_key=True)
            yield Problem(where, f"{name}: neither an input nor a parameter", remedy)


def _expression_names(case: Case) -> Sequence[str] | None:
    """The names that an expression may use; None for a user's module, whose parameters are not known here."""
    if case.factory is not None:
        return None
    signature = layer_signatures().get(case.layer or "")
    arguments = signature.parameters if signature else ()
    recurrent = [name for name in _weight_names(case) if RECURRENT_PARAMETER.fullmatch(name)]
    return [*case.inputs, *_weight_names(case), *arguments, *recurrent, *PARAMETERS, FIRST_INPUT, OUTPUT]


def _weight_names(case: Case) -> Sequence[str]:
    """The parameters that the spec sets by name; a file of weights sets all of them."""
    return () if isinstance(case.weights, WeightsFile) else tuple(case.weights)
