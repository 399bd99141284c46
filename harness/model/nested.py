"""Inputs as Python has them: tensors, NumPy arrays, None, and nested lists, tuples and dicts of these, by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from harness.errors import UsageError
from harness.model.tensors import to_torch
from harness.spec.language.inputs.structure import Structure, flat_tree

Leaf: TypeAlias = torch.Tensor | NDArray[Any] | None
# Not one recursive type: a type checker would take a text for a sequence of texts of texts, and accept it.
_Nested1: TypeAlias = Leaf | Sequence[Leaf] | Mapping[str, Leaf]
_Nested2: TypeAlias = Leaf | Sequence[_Nested1] | Mapping[str, _Nested1]
Inputs: TypeAlias = torch.Tensor | NDArray[Any] | Sequence[_Nested2] | Mapping[str, _Nested2]
"""The inputs of a module: one tensor or array, a sequence by position, or a mapping by label."""

__all__ = ["Inputs", "Leaf", "Module", "NestedTensors", "nested_tensors"]


@dataclass(frozen=True, slots=True)
class NestedTensors:
    """The tensors by flat label, and how ``forward`` takes them. ``named`` is True if the user gave the labels."""

    tensors: Mapping[str, torch.Tensor]
    structure: Structure
    named: bool

    @property
    def nested(self) -> Structure | None:
        """The structure of the arguments that are not None; None if all of them are tensors."""
        given = {label: tree for label, tree in self.structure.items() if tree is not None}
        return None if all(isinstance(tree, str) for tree in given.values()) else given


def nested_tensors(inputs: Any) -> NestedTensors:
    """Copies of ``inputs`` on the CPU. Without labels: ``x`` for one, ``x0``, ``x1``, ... for several.

    Raises :class:`UsageError` if an input is neither a tensor nor an array.
    """
    if isinstance(inputs, torch.Tensor | np.ndarray):
        by_label: Mapping[Any, Any] = {"x": inputs}
    elif isinstance(inputs, Mapping):
        by_label = inputs
    elif isinstance(inputs, list | tuple):
        by_label = {"x" if len(inputs) == 1 else f"x{index}": tensor for index, tensor in enumerate(inputs)}
    else:
        kind = type(inputs).__name__
        raise UsageError(f"inputs: {kind} is not a tensor; give one tensor, a list of tensors, or a dict by label")
    tensors: dict[str, torch.Tensor] = {}

    def add(label: str, value: Any) -> None:
        tensors[label] = _copied(label, value)

    structure = {str(label): flat_tree(str(label), value, add) for label, value in by_label.items()}
    if not tensors:
        raise UsageError("inputs: there is no tensor in them; give at least one")
    return NestedTensors(tensors, structure, named=isinstance(inputs, Mapping))


def _copied(label: str, value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray):
        try:
            return to_torch(value)
        except TypeError as error:
            raise UsageError(
                f"inputs: {label} has dtype {value.dtype}, which torch does not have; convert it"
            ) from error
    if isinstance(value, torch.Tensor):
        return value.detach().clone().cpu()
    raise UsageError(f"inputs: {label} is {type(value).__name__}, not a tensor; use torch.tensor")
