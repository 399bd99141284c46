"""Guess inputs for a module: shapes from the layers inside it, and the kinds of numbers that eager torch accepts.

Token ids are drawn from the whole vocabulary: the number of rows of the ``Embedding`` that an input really reaches.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from harness.errors import UsageError, bounded_text, class_name
from harness.model.running import eager_outputs
from harness.model.tensors import copy_module

FALLBACK_SHAPES: tuple[tuple[int, ...], ...] = ((2, 8), (2, 4, 8), (2, 4, 8, 8), (2, 4, 8, 8, 8), (8,))
IMAGE_SIZES = (8, 32, 64, 224)
BATCH_SIZE = 2
SEQUENCE_LENGTH = 5
TRANSFORMERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
SEQUENTIAL = (nn.RNNBase, nn.MultiheadAttention)
"""Layers of sequences, which also take a single one without a batch."""
KINDS = ("normal", "uniform", "integers")
MAX_GUESSES_PER_SHAPE = 9
MAX_GUESSES_OF_GIVEN_SHAPES = 81
UNKNOWN_LIMIT = 4
"""Whole numbers are below this if no table of the module limits them."""


@dataclass(frozen=True, slots=True)
class InputGuess:
    """A possible input: its shape and its kind of numbers (``normal``, ``uniform`` or ``integers``).

    ``limit`` is what whole numbers are below: the rows of the table that they are indices of.
    """

    shape: tuple[int, ...]
    kind: str = "normal"
    limit: int = UNKNOWN_LIMIT

    def tensor(self) -> torch.Tensor:
        """A random tensor of this shape and kind."""
        match self.kind:
            case "integers":
                return torch.randint(0, self.limit, self.shape)
            case "uniform":
                return torch.rand(self.shape)
            case _:
                return torch.randn(self.shape)

    def spec_entry(self) -> dict[str, Any]:
        """The input as it is written in a spec."""
        entry: dict[str, Any] = {"shape": list(self.shape)}
        match self.kind:
            case "integers":
                return entry | {"dtype": "int64", "fill": {"integers": [0, self.limit - 1]}}
            case "uniform":
                return entry | {"fill": {"uniform": [0, 1]}}
            case _:
                return entry


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input of the user's: its values, and how a spec names the file that has them."""

    values: torch.Tensor
    entry: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the values."""
        return tuple(self.values.shape)

    def tensor(self) -> torch.Tensor:
        """A copy of the values."""
        return self.values.clone()

    def spec_entry(self) -> dict[str, Any]:
        """The input as it is written in a spec."""
        return dict(self.entry)


def any_kind(shape: tuple[int, ...]) -> tuple[InputGuess, ...]:
    """The guesses for an input whose shape is known, and whose kind of numbers is not."""
    return tuple(InputGuess(shape, kind) for kind in KINDS)


def labels_of(module: nn.Module, count: int = 0) -> list[str]:
    """The names of the inputs: the required ones of ``forward``, or ``count`` names if the user gave that many.

    If no parameter is required, it is the first one. Raises :class:`UsageError` if ``forward`` has no parameters.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    if not parameters:
        raise UsageError(f"{type(module).__name__}: its forward takes no input; harness needs a module with an input")
    positional = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    names = [parameter.name for parameter in positional][: count or max(required, 1)]
    names += [f"x{index}" for index in range(len(names), count)]
    return names or ["x"]


def accepted_inputs(
    name: str,
    module: nn.Module,
    labels: Sequence[str],
    given: Mapping[str, Sequence[InputGuess]],
    advice: str,
) -> dict[str, InputGuess]:
    """The first inputs for which the module returns tensors, with whole numbers below the sizes of their tables.

    ``given`` are the guesses for inputs that the user described, by label. ``name`` and ``advice`` are for messages.
    Raises :class:`UsageError` if the module accepts none.
    """
    first_error: Exception | None = None  # of the most likely guess
    for guesses in _guesses(module, labels, given):
        tensors = [guess.tensor() for guess in guesses]
        try:
            if not eager_outputs(module, tensors, 0):
                continue
            limits = _table_sizes(module, tensors)
        except Exception as error:  # noqa: BLE001 - the module rejects the guess
            first_error = first_error or error
            continue
        limited = (
            guess if limit is None else replace(guess, limit=limit)
            for guess, limit in zip(guesses, limits, strict=True)
        )
        return dict(zip(labels, limited, strict=True))
    tried = "this input" if len(given) == len(labels) else f"any of the guessed inputs for {', '.join(labels)}"
    reason = one_line_of(first_error) if first_error else "it returns no tensor"
    raise UsageError(f"{name} does not accept {tried}: {reason}; {advice}")


def one_line_of(error: BaseException) -> str:
    """The message of ``error`` in one short line."""
    return " ".join(bounded_text(error).split())[:160] or class_name(error)


# Token ids


def _table_sizes(module: nn.Module, tensors: Sequence[torch.Tensor]) -> list[int | None]:
    """For each input, the rows of the smallest table that is indexed with it; None if there is none."""
    if not any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) for layer in module.modules()):
        return [None] * len(tensors)
    inputs = [tensor.clone() for tensor in tensors]
    sizes: list[int | None] = [None] * len(inputs)

    def note(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        ids = arguments[0] if arguments else None
        for index, tensor in enumerate(inputs):
            if isinstance(ids, torch.Tensor) and _share_memory(ids, tensor):
                rows = int(layer.num_embeddings)  # type: ignore[arg-type]
                sizes[index] = min(rows, sizes[index] or rows)

    module = copy_module(module)
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            layer.register_forward_pre_hook(note)
    with torch.no_grad():
        module(*inputs)
    return sizes


def _share_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


# Shapes


def _guesses(
    module: nn.Module, labels: Sequence[str], given: Mapping[str, Sequence[InputGuess]]
) -> Iterator[tuple[InputGuess, ...]]:
    """Guesses for the inputs ``labels``, the most likely first."""
    if all(label in given for label in labels):
        yield from itertools.islice(itertools.product(*(given[label] for label in labels)), MAX_GUESSES_OF_GIVEN_SHAPES)
        return
    shapes = [*_shapes_by_layers(module), *_shapes_by_name(type(module).__name__), *FALLBACK_SHAPES]
    for shape in dict.fromkeys(shapes):
        options = [given.get(label) or any_kind(shape) for label in labels]
        yield from itertools.islice(itertools.product(*options), MAX_GUESSES_PER_SHAPE)
        if len(labels) > 1 and not given:  # scores by class, and the correct class of each sample
            classes = InputGuess((shape[0], *shape[2:]), "integers")
            yield (InputGuess(shape), *[classes] * (len(labels) - 1))


def _shapes_by_layers(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes that the layers inside accept, in their order: the first ones probably fit the whole module."""
    for layer in module.modules():
        if channels := _first_integer(layer, "in_channels", "num_features", "num_channels"):
            for size in IMAGE_SIZES:
                yield from ((BATCH_SIZE, channels, *[size] * axes) for axes in _spatial_axes(type(layer).__name__))
        if isinstance(layer, TRANSFORMERS):
            yield (SEQUENCE_LENGTH, BATCH_SIZE, layer.self_attn.embed_dim)
        if width := _first_integer(layer, "in_features", "input_size", "embed_dim", "d_model"):
            shapes = ((BATCH_SIZE, width), (SEQUENCE_LENGTH, BATCH_SIZE, width))
            yield from reversed(shapes) if isinstance(layer, SEQUENTIAL) else shapes
        if isinstance(shape := getattr(layer, "normalized_shape", None), tuple):
            yield (BATCH_SIZE, *shape)


def _shapes_by_name(name: str) -> Iterator[tuple[int, ...]]:
    if any(char.isdigit() for char in name):
        yield from ((BATCH_SIZE, 4, *[8] * axes) for axes in _spatial_axes(name))


def _spatial_axes(name: str) -> tuple[int, ...]:
    """Possible numbers of axes after the channels: the number in the layer's name, such as 2 for Conv2d, else any."""
    match = re.search(r"(\d)d$", name)
    return (int(match[1]),) if match else (2, 1, 0)


def _first_integer(layer: nn.Module, *names: str) -> int:
    """The first of these attributes that is an integer; 0 if none is."""
    return next((value for name in names if isinstance(value := getattr(layer, name, None), int)), 0)
