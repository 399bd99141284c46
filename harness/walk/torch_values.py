"""What torch's own leaf modules answered, one after another, while eager torch ran."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from harness.model.subject import Subject
from harness.model.tensors import to_numpy, to_torch
from harness.walk.found import ModuleCall

if TYPE_CHECKING:
    from typing_extensions import Self

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TorchSide:
    """Torch's calls in their own dtypes, and in float64; ``wide`` is None where the model does not run in float64."""

    calls: Sequence[ModuleCall]
    wide: Sequence[ModuleCall] | None

    @classmethod
    def of(cls, subject: Subject, inputs: Mapping[str, Array]) -> Self:
        """What the modules of ``subject`` answer to ``inputs``."""
        given = [to_torch(array) for array in inputs.values()]
        return cls(module_calls(subject.module, given), _wide_calls(subject.module, given))


def module_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall]:
    """Every call of a module without children, in the order of the calls; neither module nor inputs are changed."""
    calls: list[ModuleCall] = []
    module = copy.deepcopy(module)
    for path, inner in module.named_modules():
        if not any(inner.children()):
            inner.register_forward_hook(_recorder(path, calls))
    with torch.no_grad():
        module(*copy.deepcopy(tuple(inputs)))
    return calls


def _wide_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall] | None:
    wide = [each.double() if each.is_floating_point() else each for each in inputs]
    try:
        return module_calls(copy.deepcopy(module).double(), wide)
    except (RuntimeError, NotImplementedError):  # a kernel or a constant of the model that is in float32 alone
        return None


def _recorder(path: str, calls: list[ModuleCall]) -> Any:
    def record(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        calls.append(ModuleCall(path, type(module).__name__, tuple(map(to_numpy, leaves))))

    return record
