"""What might fit a module that is not known: arguments by their names, inputs by the layers inside."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Small numbers that agree with each other: eight features, four channels in groups of two.
ARGUMENTS: Mapping[str, Any] = {
    "channels": 4, "dim": 1, "downscale_factor": 2, "d_model": 8, "embed_dim": 8, "embedding_dim": 8, "groups": 2,
    "hidden_size": 5, "in1_features": 8, "in2_features": 8, "in_channels": 4, "in_features": 8, "input_size": 8,
    "kernel_size": 3, "lambd": 0.5, "max_val": 1.0, "min_val": -1.0, "nhead": 2, "norm_type": 2.0,
    "normalized_shape": [8], "num_channels": 4, "num_classes": 4, "num_embeddings": 10, "num_features": 4,
    "num_groups": 2, "num_heads": 2, "num_parameters": 4, "out_channels": 6, "out_features": 4, "output_size": 3,
    "padding": 1, "size": 2, "threshold": 0.5, "unflattened_size": [2, 2], "upscale_factor": 2, "value": 0.25,
    "hidden": 8, "hidden_dim": 8, "width": 8, "depth": 2, "features": 8, "vocab_size": 10,
}  # fmt: skip

OPTIONAL: Mapping[str, Any] = {"scale_factor": 2}
"""What some constructors do without by their signature alone."""

TOGETHER: Mapping[str, Mapping[str, Any]] = {"padding_mode": {"padding": 1}}
"""What makes a difference only beside another argument."""

ANY: tuple[tuple[int, ...], ...] = ((2, 8), (2, 4, 8), (2, 4, 8, 8), (2, 4, 8, 8, 8), (8,))
SIDES = (8, 32, 64, 224)
BATCH = 2
SEQUENCE = 5


@dataclass(frozen=True, slots=True)
class Draft:
    """An input that might do: a shape, and which numbers."""

    shape: tuple[int, ...]
    kind: str = "normal"

    def tensor(self) -> torch.Tensor:
        """One such tensor."""
        match self.kind:
            case "integers":
                return torch.randint(0, 4, self.shape)
            case "uniform":
                return torch.rand(self.shape)
            case _:
                return torch.randn(self.shape)

    def written(self, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
        """The input as a spec writes it."""
        told: dict[str, Any] = {"shape": list(self.shape if shape is None else shape)}
        match self.kind:
            case "integers":
                return told | {"dtype": "int64", "fill": {"integers": [0, 3]}}
            case "uniform":
                return told | {"fill": {"uniform": [0, 1]}}
            case _:
                return told


def drafts(module: nn.Module, count: int) -> Iterator[tuple[Draft, ...]]:
    """Inputs for a module that takes ``count`` of them, the likeliest first."""
    kinds = ("normal", "uniform", "integers")
    for shape in dict.fromkeys([*_by_layers(module), *_by_name(type(module).__name__), *ANY]):
        for chosen in itertools.islice(itertools.product(kinds, repeat=count), 9):
            yield tuple(Draft(shape, kind) for kind in chosen)
        if count > 1:  # scores for classes, and the class of each
            yield (Draft(shape), *(Draft((shape[0], *shape[2:]), "integers") for _ in range(count - 1)))


def _by_layers(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """What the first layers inside take, which is likely to be what the whole takes."""
    for layer in module.modules():
        if channels := _of(layer, "in_channels", "num_features", "num_channels"):
            for side in SIDES:
                yield from ((BATCH, channels, *[side] * sides) for sides in _sides(type(layer).__name__))
        if width := _of(layer, "in_features", "input_size", "embed_dim", "d_model"):
            yield from ((BATCH, width), (SEQUENCE, BATCH, width))
        if isinstance(shape := getattr(layer, "normalized_shape", None), tuple):
            yield (BATCH, *shape)


def _by_name(name: str) -> Iterator[tuple[int, ...]]:
    if any(char.isdigit() for char in name):
        yield from ((BATCH, 4, *[8] * sides) for sides in _sides(name))


def _sides(name: str) -> tuple[int, ...]:
    """How many axes come after the channels: as many as the layer's name says, else any number."""
    found = re.search(r"(\d)d$", name)
    return (int(found[1]),) if found else (2, 1, 0)


def _of(layer: nn.Module, *names: str) -> int:
    """The first of these attributes that is a number; 0 where none is."""
    return next((value for name in names if isinstance(value := getattr(layer, name, None), int)), 0)


def variants(default: Any, words: tuple[str, ...]) -> Iterator[Any]:
    """Other values for an argument, beside its default."""
    if words:
        yield from (word for word in words if word != default)
    elif isinstance(default, bool):
        yield not default
    elif isinstance(default, int) and 0 <= default < 1024:
        yield default * 2 or 1
