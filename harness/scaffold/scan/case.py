"""One call of a module as a case of a spec: its inputs with shapes, dtypes and layouts, and its constants.

The values of inputs are not kept: they are drawn. Whole numbers and booleans are an exception if there are few of them,
because most are indices and masks that a layer accepts only together.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from harness.errors import class_name
from harness.model.build import DTYPES
from harness.scaffold.scan.spelling import Keys, NotSpelled, as_spec_value, is_plain

MAX_LITERAL = 256
FLOATING = ("float32", "float64", "float16", "bfloat16")
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class LayerCase:
    """The keys of a case, and the tensors of the call by flat label, as the case names them."""

    keys: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    @property
    def configuration(self) -> str:
        """The same text for calls of the same configuration: the values of inputs do not count."""
        return repr({**self.keys, "inputs": _without_values(self.keys["inputs"])})


def layer_case(model: Keys, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> LayerCase:
    """The case of ``module``, which a spec names with the keys ``model``, called with these arguments.

    Raises :class:`NotSpelled` if a spec cannot write an argument.
    """
    dtype = _case_dtype(module, [*args, *kwargs.values()])
    labels, constants = _bound(module, args, kwargs)
    tensors: dict[str, torch.Tensor] = {}
    inputs = {label: _tree(label, value, dtype, module, tensors) for label, value in labels.items()}
    if not tensors:
        raise NotSpelled("no tensor is passed to it")
    keys: dict[str, Any] = dict(model)
    if constants:
        keys["forward"] = constants
    if dtype != "float32":
        keys["dtype"] = dtype
    keys["inputs"] = inputs
    return LayerCase(_with_shared_inputs(keys, labels), tensors)


def _bound(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments that hold tensors, or are null where the default is not, by label; and the other ones."""
    parameters = inspect.signature(module.forward).parameters
    labels: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for name, value in inspect.signature(module.forward).bind(*args, **kwargs).arguments.items():
        match parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                given = {f"x{index}" if len(value) > 1 else "x": each for index, each in enumerate(value)}
            case inspect.Parameter.VAR_KEYWORD:
                given = {key: each for key, each in value.items() if each is not None}
            case _:
                given = {name: value}
        for label, each in given.items():
            default = parameters[label].default if label in parameters else inspect.Parameter.empty
            if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(each)):
                labels[label] = each
            elif each is default or (is_plain(each) and type(each) is type(default) and each == default):
                continue
            elif each is None:
                labels[label] = None
            else:
                constants[label] = as_spec_value(label, each)
    return labels, constants


def _with_shared_inputs(keys: dict[str, Any], labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """The case with one input for a tensor that is passed several times, as in self-attention.

    A layer alone would get tensors of the same shape with other values, and take other kernels.
    """
    tensors = [value for value in labels.values() if isinstance(value, torch.Tensor)]
    unique = {id(tensor) for tensor in tensors}
    if "layer" not in keys or len(tensors) != len(labels) or len(unique) == len(tensors):
        return keys
    first = {id(value): label for label, value in reversed(list(labels.items()))}
    step: dict[str, Any] = {key: keys[key] for key in ("layer", "args", "forward") if key in keys}
    step |= {"in": [first[id(value)] for value in labels.values()], "out": ["y"]}
    returns = ["y"]
    if step["layer"] == "MultiheadAttention":  # without weights it returns None in their place
        step["out"] = ["y", "weights"]
        returns = ["y"] if step.get("forward", {}).get("need_weights") is False else ["y", "weights"]
    rest = {key: value for key, value in keys.items() if key not in step}
    rest["inputs"] = {label: entry for label, entry in keys["inputs"].items() if label in first.values()}
    return {"graph": [step], "returns": returns, **rest}


# Tensors


def _case_dtype(module: nn.Module, values: Sequence[Any]) -> str:
    """The dtype of the parameters, else of the first floating input."""
    tensors = [*module.parameters(), *module.buffers(), *pytree.tree_leaves(values)]
    floating = [each.dtype for each in tensors if isinstance(each, torch.Tensor) and each.is_floating_point()]
    name = _NAMES.get(floating[0], str(floating[0])) if floating else "float32"
    if name not in FLOATING:
        raise NotSpelled(f"its dtype is {name.removeprefix('torch.')}, which a spec cannot write")
    return name


def _tree(label: str, value: Any, dtype: str, module: nn.Module, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {str(key): _tree(f"{label}.{key}", item, dtype, module, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(f"{label}.{index}", item, dtype, module, tensors) for index, item in enumerate(value)]
    if not isinstance(value, torch.Tensor):
        raise NotSpelled(f"its input {label} is of type {class_name(value)}, which a spec cannot write")
    tensors[label] = value
    return _entry(label, value, dtype, module)


def _entry(label: str, tensor: torch.Tensor, case_dtype: str, module: nn.Module) -> dict[str, Any]:
    """The input as a spec writes it, with a fill that gives values like those that arrived."""
    dtype = _NAMES.get(tensor.dtype)
    if dtype is None or tensor.layout is not torch.strided:
        shown = str(tensor.dtype if dtype is None else tensor.layout).removeprefix("torch.")
        raise NotSpelled(f"its input {label} is {shown}, which a spec cannot write")
    entry: dict[str, Any] = {"shape": list(tensor.shape), **({} if dtype == case_dtype else {"dtype": dtype})}
    if (layout := _layout(tensor)) != "contiguous":
        entry["layout"] = layout
    if not tensor.numel():
        return entry
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and label == "input":
        return entry | {"fill": {"integers": [0, module.num_embeddings - 1]}}
    if tensor.is_floating_point():
        return entry | _floating_fill(tensor)
    if tensor.numel() <= MAX_LITERAL and tensor.dim():
        del entry["shape"]
        return {"values": tensor.tolist(), **entry, "dtype": dtype}
    values = tensor.unique().tolist()  # type: ignore[no-untyped-call]
    if dtype == "bool":
        return entry | {"fill": {"choice": values}}
    return entry | {"fill": {"integers": [int(values[0]), int(values[-1])]}}


def _floating_fill(tensor: torch.Tensor) -> dict[str, Any]:
    values = tensor.detach().double()
    if not bool(values.isfinite().all()):  # an additive mask
        distinct = values.unique()  # type: ignore[no-untyped-call]
        few = distinct.numel() <= 4 and not bool(distinct.isnan().any())
        return {"fill": {"choice": distinct.tolist()}} if few else {}
    low, high = float(values.min()), float(values.max())
    if low == high and tensor.numel() > 1:
        return {"fill": {"full": low}}
    if low < 0:
        return {}
    return {"fill": {"uniform": [0, 1 if high <= 1 else math.ceil(high)]}}


def _layout(tensor: torch.Tensor) -> str:
    if tensor.is_contiguous():
        return "contiguous"
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    if channels_last is not None and tensor.is_contiguous(memory_format=channels_last):
        return "channels_last"
    return "strided"


def _without_values(entry: Any) -> Any:
    if isinstance(entry, Mapping) and "values" in entry:
        return {"dtype": entry["dtype"], "shape": list(torch.tensor(entry["values"]).shape)}
    if isinstance(entry, Mapping):
        return {key: _without_values(item) for key, item in entry.items() if key != "fill"}
    return [_without_values(item) for item in entry] if isinstance(entry, list) else entry
