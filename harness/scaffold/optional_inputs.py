"""Try what ``forward`` takes besides its required inputs: masks, initial states, and switches such as ``need_weights``.

A variation counts if the module accepts it, and returns other outputs with it than without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from harness.model.running import seed_torch
from harness.model.tensors import copy_module

WITHOUT_EFFECT_ALONE = frozenset({"is_causal"})
"""Switches that only say something about another input."""
MAX_MASK = 256
"""Masks are written with their values, up to this many."""


@dataclass(frozen=True, slots=True)
class CallVariation:
    """Another way to call ``forward``: further ``inputs`` as a spec writes them, or constants."""

    name: str
    inputs: Mapping[str, Any]
    constants: Mapping[str, Any]


def call_variations(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Iterator[CallVariation]:
    """Each further parameter of ``forward`` with a value that works. ``inputs`` are the required ones by name."""
    parameters = inspect.signature(module.forward).parameters
    if not set(inputs) <= set(parameters):
        return  # they are bound by position, and a further one is bound by name
    plain = _outputs(module, inputs, {})
    for name, parameter in parameters.items():
        if name in inputs or name in WITHOUT_EFFECT_ALONE:
            continue
        if isinstance(parameter.default, bool):
            changed = _outputs(module, inputs, {name: not parameter.default})
            if changed is not None and _differ(plain, changed):
                yield CallVariation(name, {}, {name: not parameter.default})
        elif parameter.default is None and (entry := _working_entry(module, inputs, name, plain)) is not None:
            yield CallVariation(name, {name: entry}, {})


def _working_entry(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], name: str, plain: Sequence[torch.Tensor] | None
) -> Any:
    """The first guess for the input ``name`` with which the outputs are others and numbers; None if there is none."""
    for entry in _entries(module, name, next(iter(inputs.values()))):
        outputs = _outputs(module, inputs, {name: _tensor(entry)})
        if outputs is not None and _differ(plain, outputs) and not any(map(_has_nan, outputs)):
            return entry
    return None


def _entries(module: nn.Module, name: str, first: torch.Tensor) -> Iterator[Any]:
    """Guesses for an input: masks of booleans by its name, and the initial states of recurrent layers."""
    sizes = first.shape[:3]
    if "mask" in name:
        pairs = [(one, other) for one in sizes for other in sizes]
        for rows, columns in dict.fromkeys([*pairs, *[(size, size) for size in sizes]]):
            if rows * columns <= MAX_MASK and "padding" in name:
                yield {
                    "values": [[column == columns - 1 for column in range(columns)] for _ in range(rows)],
                    "dtype": "bool",
                }
            elif rows * columns <= MAX_MASK and rows == columns:  # each position sees those before it
                yield {"values": [[column > row for column in range(columns)] for row in range(rows)], "dtype": "bool"}
        if first.dim() > 1 and first.numel() <= MAX_MASK and not first.is_floating_point():
            # The convention of transformers: 1 for each token that counts.
            kept = torch.ones(first.shape, dtype=torch.int64)
            kept[..., -1] = 0
            yield {"values": kept.tolist(), "dtype": "int64"}
    elif name == "hx":
        yield from _states(module, first)


def _states(module: nn.Module, first: torch.Tensor) -> Iterator[Any]:
    if isinstance(module, nn.RNNBase):
        layers = module.num_layers * (2 if module.bidirectional else 1)
        batch = [] if first.dim() == 2 else [first.shape[0 if module.batch_first else 1]]
        hidden = {"shape": [layers, *batch, module.proj_size or module.hidden_size]}
        cell = {"shape": [layers, *batch, module.hidden_size]}
        yield [hidden, cell] if isinstance(module, nn.LSTM) else hidden
    elif isinstance(module, nn.RNNCellBase):
        state = {"shape": [*first.shape[:-1], module.hidden_size]}
        yield [state, dict(state)] if isinstance(module, nn.LSTMCell) else state


def _tensor(entry: Any) -> Any:
    if isinstance(entry, list):
        return tuple(map(_tensor, entry))
    if "values" in entry:
        return torch.tensor(entry["values"], dtype=getattr(torch, entry["dtype"]))
    return torch.randn(entry["shape"])


def _outputs(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], further: Mapping[str, Any]
) -> list[torch.Tensor] | None:
    """The outputs; None if the module refuses the call."""
    copied = {name: tensor.clone() for name, tensor in inputs.items()}
    try:
        with torch.random.fork_rng(devices=()), torch.no_grad():
            seed_torch(0)
            returned = copy_module(module)(**copied, **further)
    except Exception:  # noqa: BLE001 - the module refuses them
        return None
    return [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]


def _differ(plain: Sequence[torch.Tensor] | None, changed: Sequence[torch.Tensor]) -> bool:
    if plain is None or not changed or len(plain) != len(changed):
        return bool(changed) and plain is not None
    return not all(
        one.shape == other.shape and torch.equal(one, other) for one, other in zip(plain, changed, strict=True)
    )


def _has_nan(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())
