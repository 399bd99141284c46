"""Faults in modules, as an exporter or a person makes them: :func:`faults` lists those that a module can have."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

KINDS = (
    "weight row off by 1 %",
    "layer skipped",
    "activation swapped",
    "epsilon times 10",
    "mask off by one",
    "layer in lower precision",
)

SKIPPED = (
    *("LayerNorm", "LayerNorm2d", "BatchNorm2d", "LlamaRMSNorm", "T5LayerNorm", "BasicBlock", "InvertedResidual"),
    *("CNBlock", "EncoderBlock", "SwinTransformerBlock", "BertLayer", "GPT2Block", "LlamaDecoderLayer", "T5Block"),
    *("WhisperEncoderLayer", "WhisperDecoderLayer", "SqueezeExcitation"),
)
"""The names of the layers that return something of the shape of what they take, where they are the identity."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ReLU": functional.leaky_relu,
    "Hardswish": functional.silu,
    "Hardsigmoid": torch.sigmoid,
    "GELU": lambda x: functional.gelu(x, approximate="tanh"),
    "GELUActivation": lambda x: functional.gelu(x, approximate="tanh"),
    "NewGELUActivation": functional.gelu,
    "SiLUActivation": functional.gelu,
    "SiLU": functional.gelu,
    "Sigmoid": functional.hardsigmoid,
    "Tanh": functional.softsign,
}
"""What takes the place of each activation."""

EPSILONS = ("eps", "variance_epsilon")
MASKS = ("attention_mask", "mask")


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, the layer's path, and a function that plants it in a module of the same structure."""

    kind: str
    path: str
    change: Callable[[nn.Module], None]

    def plant(self, module: nn.Module) -> None:
        """Change ``module``, in place."""
        with torch.no_grad():
            self.change(module.get_submodule(self.path))


def faults(module: nn.Module, of_each_kind: int) -> tuple[Fault, ...]:
    """At most ``of_each_kind`` faults of each kind, in layers that are evenly spread over ``module``."""
    found: defaultdict[str, list[Fault]] = defaultdict(list)
    for path, layer in module.named_modules():
        for kind, change in _changes(layer):
            found[kind].append(Fault(kind, path, change))
    return tuple(fault for kind in KINDS for fault in _spread(found[kind], of_each_kind))


def _spread(found: list[Fault], number: int) -> Iterable[Fault]:
    if len(found) <= number:
        return found
    step = (len(found) - 1) / max(number - 1, 1)
    return [found[round(index * step)] for index in range(number)]


def _changes(layer: nn.Module) -> Iterator[tuple[str, Callable[[nn.Module], None]]]:
    name = type(layer).__name__
    if _weight(layer) is not None:
        yield KINDS[0], _scale_row
        yield KINDS[5], _lower_precision
    if name in SKIPPED and getattr(layer, "downsample", None) is None and getattr(layer, "use_res_connect", True):
        yield KINDS[1], _skip
    if name in ACTIVATIONS:
        yield KINDS[2], _swap_activation
    if any(isinstance(getattr(layer, epsilon, None), float) for epsilon in EPSILONS):
        yield KINDS[3], _raise_epsilon
    if _has_mask(layer):
        yield KINDS[4], _shift_mask


def _weight(layer: nn.Module) -> torch.Tensor | None:
    """The first matrix, or tensor of more axes, that belongs to this very layer."""
    parameters = layer.named_parameters(recurse=False)
    return next((tensor for name, tensor in parameters if "weight" in name and tensor.dim() > 1), None)


def _has_mask(layer: nn.Module) -> bool:
    """True if ``layer`` is an attention that takes a mask, or one that shifts its windows."""
    if hasattr(layer, "shift_size"):
        return sum(cast("list[int]", layer.shift_size)) > 0
    parameters = inspect.signature(layer.forward).parameters
    return "attention" in type(layer).__name__.lower() and any(name in parameters for name in MASKS)


def _scale_row(layer: nn.Module) -> None:
    """Multiply the middle row of the weight by 1.01."""
    weight = _weight(layer)
    assert weight is not None
    weight[weight.shape[0] // 2] *= 1.01


def _skip(layer: nn.Module) -> None:
    layer.register_forward_hook(_return_input, with_kwargs=True)


def _return_input(_layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    taken = args[0] if args else kwargs["hidden_states"]
    return (taken, *output[1:]) if isinstance(output, tuple) else taken


def _swap_activation(layer: nn.Module) -> None:
    other = ACTIVATIONS[type(layer).__name__]
    layer.inplace = False  # type: ignore[assignment]  # else the hook would be given what the layer wrote
    layer.register_forward_hook(lambda _, args, __: other(args[0]))


def _raise_epsilon(layer: nn.Module) -> None:
    for name in EPSILONS:
        if isinstance(getattr(layer, name, None), float):
            setattr(layer, name, 10 * getattr(layer, name))


def _shift_mask(layer: nn.Module) -> None:
    """Move the attention mask by one key; for windows, shift them by one more."""
    if hasattr(layer, "shift_size"):
        first, *others = cast("list[int]", layer.shift_size)
        layer.shift_size = [first + 1, *others]  # type: ignore[assignment]
        return
    layer.register_forward_pre_hook(_move_mask, with_kwargs=True)


def _move_mask(_layer: nn.Module, args: Any, kwargs: Any) -> Any:
    def moved(value: Any) -> Any:
        is_mask = isinstance(value, torch.Tensor) and value.dim() == 4 and value.shape[1] == 1
        return torch.cat([value[..., :1], value[..., :-1]], dim=-1) if is_mask else value

    return tuple(map(moved, args)), {name: moved(value) if name in MASKS else value for name, value in kwargs.items()}


def _lower_precision(layer: nn.Module) -> None:
    """Round the weight, the inputs and the output to bfloat16."""
    weight = _weight(layer)
    assert weight is not None
    weight.copy_(_rounded(weight))
    layer.register_forward_pre_hook(lambda _, args: tuple(map(_rounded, args)))
    layer.register_forward_hook(lambda _, __, output: _rounded(output))


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_rounded, value))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.to(torch.bfloat16).to(value.dtype)
