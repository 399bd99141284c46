"""Case -> :class:`Subject`: the seeded module in the asked mode, its weights and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import parameter
from torch.utils import _pytree as pytree

from harness.errors import UsageError
from harness.model.copies import copied
from harness.model.layers import call_factory
from harness.model.seed import seed as seed_torch
from harness.model.subject import Subject
from harness.model.tensors import copy_of, to_torch
from harness.model.wiring import bind, parameter_of, wire
from harness.spec.case import (
    Case,
    FactoryModel,
    FileModel,
    GraphModel,
    LayerModel,
    Model,
    PackedModel,
    SequentialModel,
    TensorSpec,
    WeightedModel,
)
from harness.spec.fill import array

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}


def tensors(specs: Sequence[TensorSpec]) -> dict[str, torch.Tensor]:
    """The tensors by label, in their layouts."""
    return {spec.label: to_torch(array(spec), spec.layout) for spec in specs}


def build(case: Case, sized: Callable[[int], None] = lambda _size: None) -> Subject:
    """The case's module with its example inputs; ``sized`` is told how many bytes it takes, before it is called.

    Torch's own errors pass through: an argument or a shape that a layer refuses is the case's to explain.
    """
    inputs = tensors(case.inputs)
    module = module_of(case.model, case, list(inputs))
    sized(size_of(module))
    answer = answers(module, list(inputs.values()), case.seed)
    return Subject(module, inputs, len(answer), case.mode, case.dynamic, answer)


def size_of(module: nn.Module) -> int:
    """The bytes of its parameters and buffers, each counted once; of one that has no size yet, none."""
    held = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in held if not parameter.is_lazy(tensor))


def module_of(weighted: WeightedModel, case: Case, labels: Sequence[str]) -> nn.Module:
    """``weighted`` as a module in the case's mode and dtype, seeded by the case."""
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = _wired(weighted.model, labels)
    if case.dtype != "float32" and DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    load_weights(module, {name: array(spec, _shape_of(module, name)) for name, spec in weighted.weights.items()})
    return module.train(case.mode == "train")


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Set parameters and buffers by name, in place.

    Raises :class:`UsageError` for a name that the module has not, or a shape that is not its own.
    """
    for name, values in weights.items():
        held = parameter_of(module, name)
        if held is None:
            names = ", ".join(name for name, _ in module.named_parameters()) or "none"
            raise UsageError(f"weights: the model has no parameter {name!r}; it has {names}")
        if tuple(held.shape) != values.shape:
            raise UsageError(f"weights: {name} has shape {tuple(held.shape)}, given {values.shape}")
        with torch.no_grad():
            held.copy_(to_torch(values, "contiguous"))


def _shape_of(module: nn.Module, name: str) -> Sequence[int]:
    """The shape that a weight is filled in; that of nothing where there is no such parameter."""
    held = parameter_of(module, name)
    return () if held is None else tuple(held.shape)


def answers(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """What eager torch answers, flattened; neither the module, the inputs nor the random state is changed."""
    return answered(copied(module), [copy_of(tensor) for tensor in inputs], seed)


def answered(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """The same of a module and inputs that may be changed."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        seed_torch(seed)
        answer = module(*inputs)
    leaves = pytree.tree_leaves(answer)
    return [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _wired(model: Model, labels: Sequence[str]) -> nn.Module:
    match model:
        case LayerModel():
            return bind(model, labels)
        case SequentialModel(steps):
            return nn.Sequential(*(bind(step, ["x"]) for step in steps))
        case GraphModel():
            return wire(model, labels)
        case FactoryModel():
            return call_factory(model)
        case FileModel():
            raise UsageError(f"{model.path}: a model file cannot be built; it is verified as it is")
        case PackedModel():
            raise UsageError(f"{model.folder}: a bundle holds what was exported, not the model; name its specs")
