"""How inputs reach ``forward``: by name or by position, with constants, and nested.

:func:`bind_labels` is for the inputs of a case. :func:`nested_tensors` takes them as a user of the Python API has them.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from harness.errors import UsageError
from harness.model.tensors import ON_META, to_torch
from harness.model.user_modules import script_signature
from harness.spec.language.case import Case
from harness.spec.language.inputs.structure import (
    Structure,
    arguments,
    flat_tree,
    in_order,
    null_labels,
    without_null,
)


class MixedLabels(UsageError):
    """Only some labels of the inputs are parameters of ``forward``."""


class TakesFlatInputs(nn.Module):
    """A module that takes the tensors of nested inputs by position, and calls ``nested`` with them put together."""

    def __init__(self, nested: nn.Module, structure: Structure) -> None:
        super().__init__()
        self.nested = nested
        self._structure = structure
        self._labels = in_order(structure)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """What the nested module returns."""
        return self.nested(*arguments(self._structure, dict(zip(self._labels, tensors, strict=True))))


def bind_labels(
    module: nn.Module,
    labels: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    nulls: Collection[str] = (),
    *,
    allow_mixture: bool = False,
) -> nn.Module:
    """``module``, taking its inputs in the order of ``labels``, with ``constants`` as keyword arguments of ``forward``.

    The arguments ``nulls`` are None and no inputs.

    If every label is a parameter of ``forward``, the inputs are passed by name; if none is, by position. A mixture is
    refused, since the others may be misspelt parameters. With ``allow_mixture``, and for a ``forward`` of ``torch.nn``,
    which a class may inherit, it is passed by position if each label that is a parameter is at its parameter's
    position.

    Raises :class:`MixedLabels`, which shows the signature, and :class:`UsageError` for a constant that ``forward`` does
    not take or an input is bound to.
    """
    try:
        signature = script_signature(module) or inspect.signature(module.forward)
    except (TypeError, ValueError):  # a forward that is not written in Python
        return module if not constants and not nulls else _called(module, labels, constants or {}, nulls)
    _require_constants(constants or {}, labels, signature)
    named = [name for name, parameter in signature.parameters.items() if parameter.kind not in _VARIADIC]
    keyword_only = {name for name in named if signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY}
    in_place = all(label not in named or named.index(label) == position for position, label in enumerate(labels))
    variadic = any(each.kind is each.VAR_POSITIONAL for each in signature.parameters.values())
    by_keyword = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    if by_keyword and not variadic and len(labels) > len(named) - len(keyword_only):  # **kwargs takes the others
        return _called(module, labels, constants or {}, nulls, by_position=())
    of_one_kind = variadic or set(labels).isdisjoint(named) or set(labels) <= set(named)
    defined_in = getattr(module.forward, "__module__", None) or ""  # None for that of a script or a graph
    allowed = of_one_kind or allow_mixture or defined_in.startswith("torch.nn.")
    if in_place and allowed and keyword_only.isdisjoint(labels):
        return module if not constants and not nulls else _called(module, labels, constants or {}, nulls)
    if not set(labels) <= set(named):
        known = ", ".join(label for label in labels if label in named)
        raise MixedLabels(
            f"inputs: {known} must be bound by name, and the other labels of {', '.join(labels)} are no parameters of "
            f"forward{signature}; label every input with its parameter, or none"
        )
    positional_only = [name for name in named if signature.parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    by_name_too = (name for name in named if name not in keyword_only)
    in_order = [
        label for label, _ in takewhile(lambda pair: pair[0] == pair[1], zip(labels, by_name_too, strict=False))
    ]
    by_position = max(in_order, [name for name in positional_only if name in labels], key=len)
    return _called(module, labels, constants or {}, nulls, by_position)


def takes_tensors(module: nn.Module, case: Case) -> nn.Module:
    """``module``, taking the tensors of the case's inputs by position; nested ones are put together.

    A mixture of labels was judged before, with the names of the file that is compared.

    Raises :class:`UsageError` as :func:`bind_labels`.
    """
    bound = bind_labels(module, case.arguments, None, null_labels(case.structure), allow_mixture=True)
    taking = bound if case.structure is None else TakesFlatInputs(bound, without_null(case.structure))
    for each in (bound, taking):
        each.training = module.training  # the modes of the parts stay as they are
    return taking


def with_nulls(module: nn.Module, labels: Sequence[str], nulls: Collection[str]) -> nn.Module:
    """``module``, taking its inputs by position, with None for those that are in ``nulls``."""
    return _called(module, labels, {}, nulls)


def _called(
    module: nn.Module,
    labels: Sequence[str],
    constants: Mapping[str, Any],
    nulls: Collection[str],
    by_position: Sequence[str] | None = None,
) -> nn.Module:
    """A module that passes ``constants`` and its inputs by name, but those in ``by_position``, or all inputs."""
    graph, root = fx.Graph(), nn.Module()
    root.add_module("layer", module)
    values = {label: None if label in nulls else graph.placeholder(label) for label in labels}
    first = list(labels) if by_position is None else by_position
    keywords = {**{label: value for label, value in values.items() if label not in first}, **constants}
    graph.output(graph.call_module("layer", tuple(values[label] for label in first), keywords))
    return fx.GraphModule(root, graph)


def _require_constants(constants: Mapping[str, Any], labels: Sequence[str], signature: inspect.Signature) -> None:
    """Check that ``forward`` takes the constants. Raises :class:`UsageError`, which shows the signature."""
    parameters = signature.parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := [name for name in constants if name not in parameters]:
        raise UsageError(f"forward: {', '.join(unknown)}: no parameter of forward{signature}; remove it")
    bound = labels if set(labels) <= set(parameters) else list(parameters)[: len(labels)]
    if twice := [name for name in constants if name in bound]:
        raise UsageError(
            f"forward: {', '.join(twice)}: an input is already bound to it in forward{signature}; give it once"
        )


_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


Leaf: TypeAlias = torch.Tensor | NDArray[Any] | None
# Not one recursive type: a type checker would take a text for a sequence of texts of texts, and accept it.
_Nested1: TypeAlias = Leaf | Sequence[Leaf] | Mapping[str, Leaf]
_Nested2: TypeAlias = Leaf | Sequence[_Nested1] | Mapping[str, _Nested1]
Inputs: TypeAlias = torch.Tensor | NDArray[Any] | Sequence[_Nested2] | Mapping[str, _Nested2]
"""The inputs of a module: one tensor or array, a sequence by position, or a mapping by label."""


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
    if isinstance(inputs, torch.Tensor | np.ndarray | np.generic):
        by_label: Mapping[Any, Any] = {"x": inputs}
    elif isinstance(inputs, Mapping):
        by_label = inputs
    elif isinstance(inputs, list | tuple):
        by_label = {"x" if len(inputs) == 1 else f"x{index}": tensor for index, tensor in enumerate(inputs)}
    else:
        kind = type(inputs).__name__
        raise UsageError(
            f"inputs: {kind} is neither a tensor nor an array; give one, a list of them, or a dict by label"
        )
    tensors: dict[str, torch.Tensor] = {}

    def add(label: str, value: Any) -> None:
        tensors[label] = _copied(label, value)

    structure = {str(label): flat_tree(str(label), value, add) for label, value in by_label.items()}
    if not tensors:
        raise UsageError("inputs: there is no tensor in them; give at least one")
    return NestedTensors(tensors, structure, named=isinstance(inputs, Mapping))


def _copied(label: str, value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray | np.generic):
        try:
            return to_torch(np.asarray(value))
        except TypeError as error:
            raise UsageError(
                f"inputs: {label} has dtype {value.dtype}, which torch does not have; convert it"
            ) from error
    if isinstance(value, torch.Tensor):
        if value.is_meta:
            raise UsageError(f"inputs: {label} is {ON_META}; give a tensor on the CPU")
        return value.detach().clone().cpu()
    raise UsageError(f"inputs: {label} is {type(value).__name__}, not a tensor; use torch.tensor")
