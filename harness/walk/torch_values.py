"""What torch's own leaf modules answered, one after another, while eager torch ran."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from harness.model.subject import Subject
from harness.model.tensors import to_numpy

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a leaf module: its path in the model, its class, and its outputs."""

    path: str
    kind: str
    outputs: tuple[Array, ...]

    def __str__(self) -> str:
        return f"{self.path} ({self.kind})" if self.path else self.kind


def module_calls(subject: Subject, inputs: Sequence[torch.Tensor]) -> list[ModuleCall]:
    """Every call of a module without children, in the order of the calls; neither module nor inputs are changed."""
    calls: list[ModuleCall] = []
    module = copy.deepcopy(subject.module)
    for path, inner in module.named_modules():
        if not any(inner.children()):
            inner.register_forward_hook(_recorder(path, calls))
    with torch.no_grad():
        module(*copy.deepcopy(tuple(inputs)))
    return calls


def _recorder(path: str, calls: list[ModuleCall]) -> Any:
    def record(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        calls.append(ModuleCall(path, type(module).__name__, tuple(map(to_numpy, leaves))))

    return record
