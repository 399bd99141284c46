"""Where layers sit in a built model, and how one of them is replaced.

Shows every case the wrong mutants of its layers, and sees whether it would notice.

A case notices a mutant if the mutant's answer is outside tolerance, or against an expectation, or an error. A mutant that no
case of the specs notices, and a case that notices none of its mutants, are gaps through which a wrong export would pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from harness.audit.result import Audit, MutantOutcome
from harness.check.cache.artifacts import ArtifactCache
from harness.check.judge import check_expectations, check_gradients
from harness.check.prepared_case import PreparedCase
from harness.compare.verdict import compare_with_reference
from harness.layers import Array, Call, Mutant, find
from harness.layers.generic import generic_mutants
from harness.model.answer import Reference
from harness.model.build import (
    DTYPES,
    Subject,
    build_layer,
    constructor_arguments,
    eager_outputs,
    load_weights,
    seed_torch,
)
from harness.model.reference import gradients
from harness.model.tensors import to_numpy, to_torch
from harness.module_copy import copy_module
from harness.spec.language.case import Case, FactoryModel, GraphModel, LayerModel, SequentialModel


@dataclass(frozen=True, slots=True)
class Site:
    """One layer of a case's model, and the name of the submodule that it became; the root's is empty."""

    layer: LayerModel
    path: str


def sites(case: Case, module: nn.Module) -> Iterator[Site]:
    """The layers of the case that its spec names; a factory's are its own affair."""
    match case.model.model:
        case LayerModel() as layer:
            yield Site(layer, "layer" if isinstance(module, fx.GraphModule) else "")
        case SequentialModel(steps):
            for index, step in enumerate(steps):
                yield Site(step, f"{index}.layer" if step.forward else f"{index}")
        case GraphModel(nodes):
            assert isinstance(module, fx.GraphModule)
            names = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
            for node, name in zip(nodes, names, strict=True):
                yield Site(node.layer, name)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a layer is given where it sits, and what it answers there."""

    call: Call
    outputs: tuple[Array, ...]


def seen(case: Case, subject: Subject, site: Site) -> Seen:
    """Run the whole model once, and look on at ``site``."""
    module = copy_module(subject.module)
    given: list[torch.Tensor] = []
    made: list[torch.Tensor] = []

    def before(_module: nn.Module, inputs: Any) -> None:
        # Cloned: a layer in place changes what it was given.
        given.extend(leaf.clone() for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor))

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        made.extend(leaf.clone() for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))

    layer = module.get_submodule(site.path)
    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)
    eager_outputs(module, list(subject.inputs.values()), case.seed)
    call = Call(
        args=constructor_arguments(site.layer),
        weights=_weights(layer),
        inputs=[wide(tensor) for tensor in given],
        forward=site.layer.forward,
        mode=case.mode,
        dtype=case.dtype,
    )
    return Seen(call, tuple(map(to_numpy, made)))


def replaced(case: Case, subject: Subject, site: Site, mutant: Mutant) -> nn.Module:
    """The whole model with ``mutant`` at ``site``. Torch's own errors pass through: a mutant may not fit there."""
    module = copy_module(subject.module)
    if mutant.outputs is not None:
        module.get_submodule(site.path).register_forward_hook(_changing(mutant))
        return module
    if mutant.weights is not None:
        layer = module.get_submodule(site.path)
        held = layer.state_dict()
        wrong = mutant.weights(_weights(layer))
        load_weights(layer, {name: values.astype(to_numpy(held[name]).dtype) for name, values in wrong.items()})
        return module
    other = _other(case, site, mutant)
    _take_weights(other, module.get_submodule(site.path))
    if not site.path:
        return other
    module.set_submodule(site.path, other)
    return module


def wide(tensor: torch.Tensor) -> Array:
    """The values in float64 where they are floating, as definitions and mutants take them."""
    array = to_numpy(tensor)
    return array.astype("float64") if tensor.is_floating_point() else array


def _other(case: Case, site: Site, mutant: Mutant) -> nn.Module:
    layer = LayerModel(mutant.layer or site.layer.layer, site.layer.args if mutant.args is None else mutant.args)
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = build_layer(layer)
    if DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    return module.train(case.mode == "train")


def _take_weights(other: nn.Module, layer: nn.Module) -> None:
    """Give a mutant of the same class the weights that it still has room for; another class starts from its own."""
    if type(other) is type(layer):
        held = layer.state_dict()
        for name, tensor in other.state_dict().items():
            if name in held and held[name].shape == tensor.shape:
                tensor.copy_(held[name])


def _changing(mutant: Mutant) -> Any:
    """A hook that puts the mutant's outputs in place of the right ones, in their dtypes."""

    def change(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        assert mutant.outputs is not None
        leaves, form = pytree.tree_flatten(output)
        right = tuple(to_numpy(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))
        wrong = iter([to_torch(made.astype(was.dtype)) for made, was in zip(mutant.outputs(right), right, strict=True)])
        return pytree.tree_unflatten([next(wrong) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], form)

    return change


def _weights(layer: nn.Module) -> dict[str, Array]:
    return {name: wide(tensor) for name, tensor in layer.state_dict().items()}


REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""What torch raises where a mutant cannot take the inputs: no target could pass it off as the layer."""


def audit(cases: Sequence[Case], scratch: Path) -> Audit:
    """Put every case before the mutants of its layers."""
    left_out = {case.id: why for case in cases if (why := _why_left_out(case))}
    shown = (case for case in cases if case.id not in left_out)
    return Audit(tuple(one for case in shown for one in mutant_outcomes(case, scratch)), left_out)


def mutant_outcomes(case: Case, scratch: Path) -> Iterator[MutantOutcome]:
    """Every mutant of every layer of one case, where it sits."""
    prepared = PreparedCase(case, ArtifactCache(None, scratch))
    for site in sites(case, prepared.subject.module):
        here = seen(case, prepared.subject, site)
        for mutant in _mutants_of(site, here):
            noticed = mutant.why_equivalent is None and _notices(prepared, site, mutant)
            yield MutantOutcome(case.id, site.layer.layer, mutant.name, noticed, mutant.why_equivalent)


def _why_left_out(case: Case) -> str | None:
    if case.expect.raises is not None:
        return "it is about an error"
    if case.is_recorded:
        return "a model file cannot be rebuilt"
    return "a factory's layers are not named in the spec" if isinstance(case.model.model, FactoryModel) else None


def _mutants_of(site: Site, here: Seen) -> Iterable[Mutant]:
    known = find(site.layer.layer)
    return generic_mutants(site.layer.layer, here.call, here.outputs) if known is None else known.mutants(here.call)


def _notices(prepared: PreparedCase, site: Site, mutant: Mutant) -> bool:
    with redirect_stderr(StringIO()):  # torch.fx prints a traceback of its own beside the exception
        try:
            wrong = replaced(prepared.case, prepared.subject, site, mutant)
            told = any(_tells(prepared, reference, wrong) for reference in prepared.references)
            return told or _tells_gradients(prepared, wrong)
        except REFUSALS:
            return True


def _tells(prepared: PreparedCase, reference: Reference, wrong: nn.Module) -> bool:
    """Whether the case fails with the answer of ``wrong``, as a check of a target that gave it would."""
    answer = _answer(prepared.case, reference, wrong)
    if not _same_form(answer, reference.eager):
        return True
    tolerance = prepared.tolerance(None)
    if not reference.stochastic and not compare_with_reference(answer, reference, tolerance).passed:
        return True
    if reference is not prepared.references[0]:
        return False  # the expectations speak of the case's own shapes
    return any(not found.passed for found in check_expectations(prepared.expected, reference, answer, tolerance))


def _tells_gradients(prepared: PreparedCase, wrong: nn.Module) -> bool:
    """Whether a gradient that the spec gives tells the mutant, as it would on a target that can be differentiated."""
    case, own = prepared.case, prepared.references[0]
    if not (case.expect.gradient or case.expect.gradient_range):
        return False
    found = gradients(replace(prepared.subject, module=wrong), case.seed)
    if not case.expect.gradient.keys() <= found.keys():
        return True
    answer = _answer(case, own, wrong)
    return any(not finding.passed for finding in check_gradients(prepared.expected, own, answer, found))


def _answer(case: Case, reference: Reference, wrong: nn.Module) -> dict[str, Array]:
    outputs = eager_outputs(wrong, [to_torch(values) for values in reference.inputs.values()], case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}


def _same_form(answer: Mapping[str, Array], eager: Mapping[str, Array]) -> bool:
    def form(outputs: Mapping[str, Array]) -> list[object]:
        return [(name, values.dtype, values.shape) for name, values in outputs.items()]

    return form(answer) == form(eager)
