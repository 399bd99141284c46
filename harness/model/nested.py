"""What a module takes and returns, as Python has it: tensors, None, and nested lists, tuples and dicts of these.

Inputs go by label and may be NumPy arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module
from torch.utils import _pytree as pytree

from harness.errors import Unsupported, UsageError
from harness.model.tensors import to_torch
from harness.spec.language.inputs.structure import AsTuple, Structure, Tree

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
    structure = {str(label): _tree(str(label), value, tensors) for label, value in by_label.items()}
    if not tensors:
        raise UsageError("inputs: there is no tensor in them; give at least one")
    return NestedTensors(tensors, structure, named=isinstance(inputs, Mapping))


def _tree(label: str, value: Any, tensors: dict[str, torch.Tensor]) -> Tree:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: _tree(f"{label}.{key}", item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = tuple(_tree(f"{label}.{index}", item, tensors) for index, item in enumerate(value))
        return AsTuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.ndarray):
        try:
            tensors[label] = to_torch(value)
        except TypeError as error:
            raise UsageError(
                f"inputs: {label} has dtype {value.dtype}, which torch does not have; convert it"
            ) from error
    elif isinstance(value, torch.Tensor):
        tensors[label] = value.detach().clone().cpu()
    else:
        raise UsageError(f"inputs: {label} is {type(value).__name__}, not a tensor; use torch.tensor")
    return label


def require_comparable(returned: object, tensors: Sequence[torch.Tensor]) -> None:
    """Check what a module returned.

    Raises :class:`UsageError` if there is no tensor in it, and :class:`Unsupported` for complex numbers. Warns of an
    object beside tensors that may hold further ones.
    """
    leaves = {type(leaf): leaf for leaf in pytree.tree_leaves(returned) if not isinstance(leaf, torch.Tensor)}
    plain = {"builtins", "numpy", "torch"}  # numbers, texts, dtypes and devices
    opaque = [f"{kind.__module__}.{kind.__qualname__}" for kind in leaves if kind.__module__ not in plain]
    known = "a tensor, or a tuple, list, dict or named tuple of tensors"
    if not tensors:
        kinds = ", ".join(opaque or [kind.__name__ for kind in leaves]) or "nothing"
        registered = "; or register the class with torch.utils._pytree" if opaque else ""
        raise UsageError(f"forward returns {kinds}, in which torch finds no tensor; return {known}{registered}")
    if opaque:
        warnings.warn(
            f"forward returns {', '.join(opaque)} beside tensors, in which torch finds none, so nothing in it is "
            f"compared; return {known}",
            stacklevel=1,
        )
    for index, tensor in enumerate(tensors):
        if tensor.is_complex():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise Unsupported(
                f"output_{index} is {dtype}, and complex numbers are not compared; return torch.view_as_real(...) of it"
            )
