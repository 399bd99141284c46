"""Run every case with the mutants of its layers, to see which mutants the case kills.

A case kills a mutant if a check of a target with the mutant's outputs would fail: the outputs are outside the
tolerance, or do not meet an expectation, or torch raises an error. A wrong export would pass unnoticed in two
situations: a mutant survives all cases, or a case kills no mutant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from harness.audit import Audit, MutantOutcome
from harness.check.cache.artifacts import ArtifactCache
from harness.check.judging.judge import check_expectations, check_gradients, have_same_form
from harness.check.module.prepared_case import PreparedCase
from harness.compare.verdict import compare_with_reference
from harness.layers import Array, Call, Mutant, find
from harness.layers.generic import generic_mutants
from harness.model.answer import Reference
from harness.model.build import DTYPES, Subject, build_layer, constructor_arguments
from harness.model.precisions import floating_as_float64
from harness.model.reference import gradients
from harness.model.running import eager_outputs, seed_torch
from harness.model.tensors import copy_module, to_numpy, to_torch
from harness.model.weights import load_weights
from harness.spec.language.case import Case, FactoryModel, GraphModel, LayerModel, Operation, SequentialModel

MUTANT_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""What torch raises if a mutant cannot take the inputs: no target could return such a mutant's outputs."""


def audit(cases: Sequence[Case], scratch: Path) -> Audit:
    """Run every case with the mutants of its layers."""
    not_audited = {case.id: reason for case in cases if (reason := _why_not_audited(case))}
    audited = (case for case in cases if case.id not in not_audited)
    return Audit(tuple(outcome for case in audited for outcome in mutant_outcomes(case, scratch)), not_audited)


def _why_not_audited(case: Case) -> str | None:
    if case.expect.raises is not None:
        return "an error is expected"
    if case.is_recorded:
        return "the layers of a model file cannot be replaced"
    if case.structure is not None:
        return "its inputs are nested"
    return "a factory's layers are not named in the spec" if isinstance(case.model.model, FactoryModel) else None


def mutant_outcomes(case: Case, scratch: Path) -> Iterator[MutantOutcome]:
    """The outcome of every mutant of every layer of one case, each mutant at the layer's place in the model."""
    prepared = PreparedCase(case, ArtifactCache(None, scratch))
    for placed in placed_layers(case, prepared.subject.module):
        name = placed.layer.layer
        for mutant in _mutants_of(name, observe_layer(case, prepared.subject, placed)):
            killed = mutant.why_equivalent is None and _kills(prepared, placed, mutant)
            yield MutantOutcome(case.id, name, mutant.name, killed, mutant.why_equivalent)


# The layers of a model


@dataclass(frozen=True, slots=True)
class PlacedLayer:
    """One layer of a case's model, and the path of its submodule; the root's path is empty."""

    layer: LayerModel
    path: str


def placed_layers(case: Case, module: nn.Module) -> Iterator[PlacedLayer]:
    """The layers that the case's spec names; none for a factory."""
    match case.model.model:
        case LayerModel() as layer:
            yield PlacedLayer(layer, "layer" if isinstance(module, fx.GraphModule) else "")
        case SequentialModel(steps):
            for index, step in enumerate(steps):
                yield PlacedLayer(step, f"{index}.layer" if step.forward else f"{index}")
        case GraphModel(nodes):
            assert isinstance(module, fx.GraphModule)
            paths = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
            layers = [node for node in nodes if not isinstance(node.layer, Operation)]
            for node, path in zip(layers, paths, strict=True):
                yield PlacedLayer(node.layer, path)


@dataclass(frozen=True, slots=True)
class ObservedCall:
    """The call of a layer inside its model, and the layer's outputs."""

    call: Call
    outputs: tuple[Array, ...]


def observe_layer(case: Case, subject: Subject, placed: PlacedLayer) -> ObservedCall:
    """Run the whole model once, and record the inputs and outputs of one layer."""
    module = copy_module(subject.module)
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []

    def record_inputs(_module: nn.Module, args: Any) -> None:
        # Cloned, because an in-place layer changes its inputs.
        inputs.extend(leaf.clone() for leaf in pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor))

    def record_outputs(_module: nn.Module, _args: Any, output: Any) -> None:
        outputs.extend(leaf.clone() for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))

    layer = module.get_submodule(placed.path)
    layer.register_forward_pre_hook(record_inputs)
    layer.register_forward_hook(record_outputs)
    eager_outputs(module, list(subject.inputs.values()), case.seed)
    call = Call(
        args=constructor_arguments(placed.layer),
        weights=_weights(layer),
        inputs=[floating_as_float64(tensor) for tensor in inputs],
        forward=placed.layer.forward,
        mode=case.mode,
        dtype=case.dtype,
    )
    return ObservedCall(call, tuple(map(to_numpy, outputs)))


def _mutants_of(name: str, observed: ObservedCall) -> Iterable[Mutant]:
    layer = find(name)
    return generic_mutants(name, observed.call, observed.outputs) if layer is None else layer.mutants(observed.call)


def _weights(layer: nn.Module) -> dict[str, Array]:
    return {name: floating_as_float64(tensor) for name, tensor in layer.state_dict().items()}


# The model with a mutant


def module_with_mutant(case: Case, subject: Subject, placed: PlacedLayer, mutant: Mutant) -> nn.Module:
    """The whole model with ``mutant`` in place of one layer. Raises torch's own error if the mutant does not fit."""
    module = copy_module(subject.module)
    if mutant.outputs is not None:
        module.get_submodule(placed.path).register_forward_hook(_output_hook(mutant))
        return module
    if mutant.weights is not None:
        layer = module.get_submodule(placed.path)
        state = layer.state_dict()
        wrong = mutant.weights(_weights(layer))
        load_weights(layer, ((name, values.astype(to_numpy(state[name]).dtype)) for name, values in wrong.items()))
        return module
    wrong_layer = _build_mutant(case, placed, mutant)
    _copy_weights(module.get_submodule(placed.path), wrong_layer)
    if not placed.path:
        return wrong_layer
    module.set_submodule(placed.path, wrong_layer)
    return module


def _build_mutant(case: Case, placed: PlacedLayer, mutant: Mutant) -> nn.Module:
    args = placed.layer.args if mutant.args is None else mutant.args
    layer = LayerModel(mutant.layer or placed.layer.layer, args)
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = build_layer(layer)
    if DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    return module.train(case.mode == "train")


def _copy_weights(layer: nn.Module, wrong_layer: nn.Module) -> None:
    """Copy the weights of ``layer`` that have the same shape in a mutant of its class; another class keeps its own."""
    if type(wrong_layer) is type(layer):
        state = layer.state_dict()
        for name, tensor in wrong_layer.state_dict().items():
            if name in state and state[name].shape == tensor.shape:
                tensor.copy_(state[name])


def _output_hook(mutant: Mutant) -> Any:
    """A forward hook that replaces the layer's outputs by the mutant's, in the same dtypes."""

    def replace_outputs(_module: nn.Module, _args: Any, output: Any) -> Any:
        assert mutant.outputs is not None
        leaves, structure = pytree.tree_flatten(output)
        correct = tuple(to_numpy(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))
        pairs = zip(mutant.outputs(correct), correct, strict=True)
        wrong = iter([to_torch(values.astype(original.dtype)) for values, original in pairs])
        replaced = [next(wrong) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        return pytree.tree_unflatten(replaced, structure)

    return replace_outputs


# Whether a case kills a mutant


def _kills(prepared: PreparedCase, placed: PlacedLayer, mutant: Mutant) -> bool:
    with redirect_stderr(StringIO()):  # torch.fx prints a traceback of its own beside the exception
        try:
            wrong_module = module_with_mutant(prepared.case, prepared.subject, placed, mutant)
            fails = any(_outputs_fail(prepared, reference, wrong_module) for reference in prepared.references)
            return fails or _gradients_fail(prepared, wrong_module)
        except MUTANT_ERRORS:
            return True


def _outputs_fail(prepared: PreparedCase, reference: Reference, wrong_module: nn.Module) -> bool:
    """Whether a check of a target with the outputs of ``wrong_module`` would fail."""
    actual = _named_outputs(prepared.case, reference, wrong_module)
    if not have_same_form(actual, reference.eager):
        return True
    tolerance = prepared.tolerance(None)
    if not reference.stochastic and not compare_with_reference(actual, reference, tolerance).passed:
        return True
    if reference is not prepared.references[0]:
        return False  # the expectations apply to the case's own shapes only
    findings = check_expectations(prepared.expected, reference, actual, tolerance)
    return any(not finding.passed for finding in findings)


def _gradients_fail(prepared: PreparedCase, wrong_module: nn.Module) -> bool:
    """Whether the spec's expected gradients kill the mutant, as they would on a target that has gradients."""
    case, reference = prepared.case, prepared.references[0]
    if not (case.expect.gradient or case.expect.gradient_range):
        return False
    actual_gradients = gradients(replace(prepared.subject, module=wrong_module), case.seed)
    if not case.expect.gradient.keys() <= actual_gradients.keys():
        return True
    actual = _named_outputs(case, reference, wrong_module)
    findings = check_gradients(prepared.expected, reference, actual, actual_gradients)
    return any(not finding.passed for finding in findings)


def _named_outputs(case: Case, reference: Reference, module: nn.Module) -> dict[str, Array]:
    outputs = eager_outputs(module, [to_torch(values) for values in reference.inputs.values()], case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}
