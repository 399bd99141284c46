"""Propose arguments and inputs for an unknown module: guess them, and keep those that eager torch accepts.

Arguments are guessed from their names, inputs from the layers inside the module.
"""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from harness.errors import UsageError, bounded_text, class_name
from harness.model.build import eager_outputs
from harness.scaffold.constructor import Constructor

# Small numbers that fit together: eight features, four channels in groups of two.
ARGUMENT_GUESSES: Mapping[str, Any] = {
    "channels": 4, "dim": 1, "downscale_factor": 2, "d_model": 8, "embed_dim": 8, "embedding_dim": 8, "groups": 2,
    "hidden_size": 5, "in1_features": 8, "in2_features": 8, "in_channels": 4, "in_features": 8, "input_size": 8,
    "kernel_size": 3, "lambd": 0.5, "max_val": 1.0, "min_val": -1.0, "nhead": 2, "norm_type": 2.0,
    "normalized_shape": [8], "num_channels": 4, "num_classes": 4, "num_embeddings": 10, "num_features": 4,
    "num_groups": 2, "num_heads": 2, "num_parameters": 4, "out_channels": 6, "out_features": 4, "output_size": 3,
    "padding": 1, "size": 2, "threshold": 0.5, "unflattened_size": [2, 2], "upscale_factor": 2, "value": 0.25,
    "hidden": 8, "hidden_dim": 8, "width": 8, "depth": 2, "features": 8, "vocab_size": 10,
}  # fmt: skip

OPTIONAL_ARGUMENT_GUESSES: Mapping[str, Any] = {"scale_factor": 2}
"""Arguments that some constructors need although their default is None."""

COMPANION_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"padding_mode": {"padding": 1}}
"""Arguments that have an effect only together with others."""

# `size_average` and `reduce` are deprecated forms of `reduction`; a spec has keys of its own for the others.
NOT_VARIED = frozenset({"size_average", "reduce", "inplace", "device", "dtype"})

FALLBACK_SHAPES: tuple[tuple[int, ...], ...] = ((2, 8), (2, 4, 8), (2, 4, 8, 8), (2, 4, 8, 8, 8), (8,))
IMAGE_SIZES = (8, 32, 64, 224)
BATCH_SIZE = 2
SEQUENCE_LENGTH = 5
OTHER_BATCH_SIZES = (1, 5)
MAX_GUESSES_PER_SHAPE = 9
MAX_VARIED_PARAMETERS = 20_000_000
"""The arguments of a larger module are not varied: each variation builds it again, here and in every run."""


@dataclass(frozen=True, slots=True)
class InputGuess:
    """A possible input: its shape and its kind of numbers (``normal``, ``uniform`` or ``integers``)."""

    shape: tuple[int, ...]
    kind: str = "normal"

    def tensor(self) -> torch.Tensor:
        """A random tensor of this shape and kind."""
        match self.kind:
            case "integers":
                return torch.randint(0, 4, self.shape)
            case "uniform":
                return torch.rand(self.shape)
            case _:
                return torch.randn(self.shape)

    def spec_entry(self) -> dict[str, Any]:
        """The input as it is written in a spec."""
        entry: dict[str, Any] = {"shape": list(self.shape)}
        match self.kind:
            case "integers":
                return entry | {"dtype": "int64", "fill": {"integers": [0, 3]}}
            case "uniform":
                return entry | {"fill": {"uniform": [0, 1]}}
            case _:
                return entry


@dataclass(frozen=True, slots=True)
class ArgumentVariation:
    """An argument with other values that work, and its ``companions``: arguments without which it has no effect."""

    name: str
    values: tuple[Any, ...]
    companions: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What works: the arguments, the inputs by label, variations of single arguments, and other batch sizes."""

    arguments: Mapping[str, Any]
    inputs: Mapping[str, InputGuess]
    variations: tuple[ArgumentVariation, ...]
    batch_sizes: tuple[int, ...]


def propose(constructor: Constructor, arguments: Mapping[str, Any], input_guesses: Sequence[InputGuess]) -> Proposal:
    """Try ``constructor`` until its module returns outputs. The user's ``arguments`` and ``input_guesses`` are kept.

    Raises :class:`UsageError` if nothing works, or if the module is stochastic.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = _complete_arguments(constructor, arguments)
        module = _build(constructor, arguments)
        labels = _labels(module, len(input_guesses))
        inputs = _accepted_inputs(constructor, module, labels, input_guesses)
        tensors = [guess.tensor() for guess in inputs.values()]
        if not _same(*(eager_outputs(module, tensors, seed) for seed in (0, 1))):
            reason = "the module is stochastic, so its outputs cannot be compared"
            raise UsageError(f"{constructor.short_name}: {reason}; write its spec by hand and use `expect`")
        variations = () if _is_large(module) else tuple(_variations(constructor, arguments, inputs))
        return Proposal(arguments, inputs, variations, tuple(_batch_sizes(module, inputs)))


# Arguments


def _complete_arguments(constructor: Constructor, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The user's arguments and a guess for each other required one. Raises :class:`UsageError` if one has no guess."""
    valid = {*constructor.required, *constructor.defaults}
    name = constructor.short_name
    if unknown := [argument for argument in arguments if argument not in valid]:
        raise UsageError(f"--arg {unknown[0]}: {name} has no such argument; it has {', '.join(sorted(valid))}")
    required = [argument for argument in constructor.required if argument not in arguments]
    if missing := [argument for argument in required if argument not in ARGUMENT_GUESSES]:
        raise UsageError(f"{name} needs the argument {missing[0]}; give it with --arg {missing[0]}=VALUE")
    guesses = {argument: ARGUMENT_GUESSES[argument] for argument in required}
    guesses |= {
        argument: value
        for argument, value in OPTIONAL_ARGUMENT_GUESSES.items()
        if constructor.defaults.get(argument, value) is None
    }
    return {**guesses, **arguments}


def _build(constructor: Constructor, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return constructor.build(arguments)
    except Exception as error:
        call = f"{constructor.short_name}({', '.join(f'{name}={value}' for name, value in arguments.items())})"
        message = f"{class_name(error)}: {_one_line(error)}"
        raise UsageError(f"{call}: {message}; give its arguments with --arg NAME=VALUE") from error


def _variations(
    constructor: Constructor, arguments: Mapping[str, Any], inputs: Mapping[str, InputGuess]
) -> Iterator[ArgumentVariation]:
    """Each argument that is at its default, with the other values that work."""
    for name, default in constructor.defaults.items():
        if name in NOT_VARIED or name in arguments:
            continue
        companions = COMPANION_ARGUMENTS.get(name, {})
        companions = {other: value for other, value in companions.items() if other in constructor.defaults}
        values = _other_values(default, constructor.choices.get(name, ()))
        if working := tuple(
            value for value in values if _works(constructor, {**arguments, **companions, name: value}, inputs)
        ):
            yield ArgumentVariation(name, working, companions)


def _other_values(default: Any, choices: tuple[str, ...]) -> Iterator[Any]:
    """Values for an argument other than its default."""
    if choices:
        yield from (choice for choice in choices if choice != default)
    elif isinstance(default, bool):
        yield not default
    elif isinstance(default, int) and 0 <= default < 1024:
        yield default * 2 or 1


def _works(constructor: Constructor, arguments: Mapping[str, Any], inputs: Mapping[str, InputGuess]) -> bool:
    tensors = [guess.tensor() for guess in inputs.values()]
    try:
        module = constructor.build(arguments)
        first, second = (eager_outputs(module, tensors, seed) for seed in (0, 1))
    except BaseException:  # noqa: BLE001 - the module rejects the argument
        return False
    return bool(first) and _same(first, second)


def _is_large(module: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in module.parameters()) > MAX_VARIED_PARAMETERS


# Inputs


def _labels(module: nn.Module, count: int) -> list[str]:
    """The names of the inputs: the required ones of ``forward``, or ``count`` names if the user gave that many.

    Raises :class:`UsageError` if ``forward`` has no parameters.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    if not parameters:
        raise UsageError(f"{type(module).__name__}: its forward takes no input; harness needs a module with an input")
    positional = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    names = [parameter.name for parameter in positional][: count or required]
    names += [f"x{index}" for index in range(len(names), count)]
    return names or ["x"]


def _accepted_inputs(
    constructor: Constructor, module: nn.Module, labels: Sequence[str], input_guesses: Sequence[InputGuess]
) -> dict[str, InputGuess]:
    """The first inputs for which the module returns tensors. Raises :class:`UsageError` if there are none."""
    last_error: Exception | None = None
    for guesses in [tuple(input_guesses)] if input_guesses else _input_guesses(module, len(labels)):
        try:
            if eager_outputs(module, [guess.tensor() for guess in guesses], 0):
                return dict(zip(labels, guesses, strict=True))
        except Exception as error:  # noqa: BLE001 - the module rejects the guess
            last_error = error
    tried = "this input" if input_guesses else f"any of the guessed inputs for {', '.join(labels)}"
    reason = _one_line(last_error) if last_error else "it returns no tensor"
    advice = "give the shape of each input with --input, such as --input 1,3,224,224"
    raise UsageError(f"{constructor.short_name} does not accept {tried}: {reason}; {advice}")


def _input_guesses(module: nn.Module, count: int) -> Iterator[tuple[InputGuess, ...]]:
    """Guesses for a module with ``count`` inputs, the most likely first."""
    kinds = ("normal", "uniform", "integers")
    shapes = [*_shapes_by_layers(module), *_shapes_by_name(type(module).__name__), *FALLBACK_SHAPES]
    for shape in dict.fromkeys(shapes):
        for selected in itertools.islice(itertools.product(kinds, repeat=count), MAX_GUESSES_PER_SHAPE):
            yield tuple(InputGuess(shape, kind) for kind in selected)
        if count > 1:  # scores by class, and the correct class of each sample
            classes = InputGuess((shape[0], *shape[2:]), "integers")
            yield (InputGuess(shape), *[classes] * (count - 1))


def _shapes_by_layers(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes that the layers inside accept, in their order: the first ones probably fit the whole module."""
    for layer in module.modules():
        if channels := _first_integer(layer, "in_channels", "num_features", "num_channels"):
            for size in IMAGE_SIZES:
                yield from ((BATCH_SIZE, channels, *[size] * axes) for axes in _spatial_axes(type(layer).__name__))
        if width := _first_integer(layer, "in_features", "input_size", "embed_dim", "d_model"):
            yield from ((BATCH_SIZE, width), (SEQUENCE_LENGTH, BATCH_SIZE, width))
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


def _batch_sizes(module: nn.Module, inputs: Mapping[str, InputGuess]) -> Iterator[int]:
    """Other sizes of the first axis that the outputs have too: then the axis may be exported as dynamic."""
    for size in OTHER_BATCH_SIZES:
        tensors = [replace(guess, shape=(size, *guess.shape[1:])).tensor() for guess in inputs.values()]
        try:
            outputs = eager_outputs(module, tensors, 0)
        except BaseException:  # noqa: BLE001 - the module rejects the size
            return
        if not outputs or not all(output.dim() and output.shape[0] == size for output in outputs):
            return
        yield size


def _same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True))


def _one_line(error: BaseException) -> str:
    return " ".join(bounded_text(error).split())[:160] or class_name(error)
