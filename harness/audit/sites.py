"""Where layers sit in a built model, and how one of them is replaced."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from harness.layers import Array, Call, Twin
from harness.model.build import DTYPES, answers, load_weights
from harness.model.layers import arguments, make
from harness.model.seed import seed as seed_torch
from harness.model.subject import Subject
from harness.model.tensors import to_numpy, to_torch
from harness.spec.case import Case, GraphModel, LayerModel, SequentialModel


@dataclass(frozen=True, slots=True)
class Site:
    """One layer of a case's model, and the name of the submodule that it became; the root's is empty."""

    layer: LayerModel
    path: str


def sites(case: Case, module: nn.Module) -> Iterator[Site]:
    """The layers of the case that its spec names; a factory's are its own affair."""
    match case.model.model:
        case LayerModel() as layer:
            yield Site(layer, "layer" if layer.forward else "")
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
    module = copy.deepcopy(subject.module)
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
    answers(module, list(subject.inputs.values()), case.seed)
    call = Call(
        args=arguments(site.layer),
        weights=_weights(layer),
        inputs=[wide(tensor) for tensor in given],
        forward=site.layer.forward,
        mode=case.mode,
        dtype=case.dtype,
    )
    return Seen(call, tuple(map(to_numpy, made)))


def replaced(case: Case, subject: Subject, site: Site, twin: Twin) -> nn.Module:
    """The whole model with ``twin`` at ``site``. Torch's own errors pass through: a twin may not fit there."""
    module = copy.deepcopy(subject.module)
    if twin.outputs is not None:
        module.get_submodule(site.path).register_forward_hook(_changing(twin))
        return module
    if twin.weights is not None:
        layer = module.get_submodule(site.path)
        held = layer.state_dict()
        wrong = twin.weights(_weights(layer))
        load_weights(layer, {name: values.astype(to_numpy(held[name]).dtype) for name, values in wrong.items()})
        return module
    other = _other(case, site, twin)
    _take_weights(other, module.get_submodule(site.path))
    if not site.path:
        return other
    module.set_submodule(site.path, other)
    return module


def wide(tensor: torch.Tensor) -> Array:
    """The values in float64 where they are floating, as definitions and twins take them."""
    array = to_numpy(tensor)
    return array.astype("float64") if tensor.is_floating_point() else array


def _other(case: Case, site: Site, twin: Twin) -> nn.Module:
    layer = LayerModel(twin.layer or site.layer.layer, site.layer.args if twin.args is None else twin.args)
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = make(layer)
    if DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    return module.train(case.mode == "train")


def _take_weights(other: nn.Module, layer: nn.Module) -> None:
    """Give a twin of the same class the weights that it still has room for; another class starts from its own."""
    if type(other) is type(layer):
        held = layer.state_dict()
        for name, tensor in other.state_dict().items():
            if name in held and held[name].shape == tensor.shape:
                tensor.copy_(held[name])


def _changing(twin: Twin) -> Any:
    """A hook that puts the twin's outputs in place of the right ones, in their dtypes."""

    def change(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        assert twin.outputs is not None
        leaves, form = pytree.tree_flatten(output)
        right = tuple(to_numpy(leaf) for leaf in leaves if isinstance(leaf, torch.Tensor))
        wrong = iter([to_torch(made.astype(was.dtype)) for made, was in zip(twin.outputs(right), right, strict=True)])
        return pytree.tree_unflatten([next(wrong) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], form)

    return change


def _weights(layer: nn.Module) -> dict[str, Array]:
    return {name: wide(tensor) for name, tensor in layer.state_dict().items()}
