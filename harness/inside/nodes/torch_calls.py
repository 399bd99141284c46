"""The outputs of torch's modules inside a model, with which the values of the exported graph are compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from harness.inside.nodes.divergence import ModuleCall
from harness.model.build import Subject
from harness.model.tensors import copy_module, to_numpy, to_torch

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TorchCalls:
    """The calls of torch's leaf modules in their own dtypes, and in float64.

    ``float64`` is None if the model does not run in float64.
    """

    calls: Sequence[ModuleCall]
    float64: Sequence[ModuleCall] | None

    @classmethod
    def of(cls, subject: Subject, inputs: Mapping[str, Array]) -> Self:
        """The calls of the modules of ``subject`` on ``inputs``."""
        tensors = [to_torch(array) for array in inputs.values()]
        return cls(module_calls(subject.module, tensors), _float64_calls(subject.module, tensors))


def module_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall]:
    """Every call of a module without children, in order. Neither the module nor the inputs are changed."""
    calls: list[ModuleCall] = []
    module = copy_module(module)
    for path, inner in module.named_modules():
        if not any(inner.children()):
            inner.register_forward_hook(_recording_hook(path, calls))
    with torch.no_grad():
        module(*copy.deepcopy(tuple(inputs)))
    return calls


def _float64_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall] | None:
    float64_inputs = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        return module_calls(copy_module(module).double(), float64_inputs)
    except (RuntimeError, NotImplementedError):  # a kernel or a constant of the model exists in float32 only
        return None


def _recording_hook(path: str, calls: list[ModuleCall]) -> Any:
    def record(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        calls.append(ModuleCall(path, type(module).__name__, tuple(map(to_numpy, leaves))))

    return record
