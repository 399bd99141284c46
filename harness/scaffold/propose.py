"""Propose arguments and inputs for an unknown module: guess them, and keep those that eager torch accepts.

Arguments are guessed from their names, inputs from the layers inside the module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn

from harness.errors import UsageError, class_name
from harness.model.binding import bind_labels
from harness.model.running import eager_outputs
from harness.scaffold.constructor import Constructor
from harness.scaffold.inputs import InputGuess, StoredInput, accepted_inputs, labels_of, one_line_of
from harness.scaffold.optional_inputs import CallVariation, call_variations

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

OTHER_BATCH_SIZES = (1, 5)
GIVE_SHAPES = "give the shape of each input with --input, such as --input 1,3,224,224"
MAX_VARIED_PARAMETERS = 20_000_000
"""The arguments of a larger module are not varied: each variation builds it again, here and in every run."""


Inputs: TypeAlias = Mapping[str, InputGuess | StoredInput]


@dataclass(frozen=True, slots=True)
class ArgumentVariation:
    """An argument with other values that work, and its ``companions``: arguments without which it has no effect."""

    name: str
    values: tuple[Any, ...]
    companions: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What works: arguments, inputs by label, variations of single arguments and of the call, other batch sizes."""

    arguments: Mapping[str, Any]
    inputs: Inputs
    variations: tuple[ArgumentVariation, ...]
    calls: tuple[CallVariation, ...]
    batch_sizes: tuple[int, ...]


def propose(
    constructor: Constructor,
    arguments: Mapping[str, Any],
    input_guesses: Sequence[InputGuess],
    stored: Mapping[str, StoredInput] | None = None,
) -> Proposal:
    """Try ``constructor`` until its module returns outputs. The user's ``arguments`` and ``input_guesses`` are kept.

    ``stored`` are the inputs of a file of the user's by label, which take the place of guesses.

    Raises :class:`UsageError` if nothing works, or if the module is stochastic.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = _complete_arguments(constructor, arguments)
        module = _build(constructor, arguments)
        inputs: Inputs
        if stored:
            inputs = stored
        else:
            labels = labels_of(module, len(input_guesses))
            given = {label: (guess,) for label, guess in zip(labels, input_guesses, strict=False)}
            inputs = accepted_inputs(constructor.short_name, module, labels, given, GIVE_SHAPES)
        bound = bind_labels(module, list(inputs))
        tensors = [guess.tensor() for guess in inputs.values()]
        if stored:
            _require_accepted(constructor.short_name, bound, tensors)
        if not _same(*(eager_outputs(bound, tensors, seed) for seed in (0, 1))):
            reason = "the module is stochastic, so its outputs cannot be compared"
            raise UsageError(f"{constructor.short_name}: {reason}; write its spec by hand and use `expect`")
        variations = () if _is_large(module) else tuple(_variations(constructor, arguments, inputs))
        calls = () if _is_large(module) else tuple(call_variations(module, dict(zip(inputs, tensors, strict=True))))
        return Proposal(arguments, inputs, variations, calls, tuple(_batch_sizes(bound, inputs)))


def _require_accepted(name: str, module: nn.Module, tensors: Sequence[torch.Tensor]) -> None:
    """Raises :class:`UsageError` if the module does not accept the user's inputs."""
    try:
        reason = None if eager_outputs(module, tensors, 0) else "it returns no tensor"
    except Exception as error:  # noqa: BLE001 - the module rejects them
        reason = one_line_of(error)
    if reason is not None:
        raise UsageError(f"{name} does not accept these inputs: {reason}; correct the file of --inputs")


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
    except UsageError:
        raise
    except Exception as error:
        call = f"{constructor.short_name}({', '.join(f'{name}={value}' for name, value in arguments.items())})"
        message = f"{class_name(error)}: {one_line_of(error)}"
        raise UsageError(f"{call}: {message}; give its arguments with --arg NAME=VALUE") from error


def _variations(constructor: Constructor, arguments: Mapping[str, Any], inputs: Inputs) -> Iterator[ArgumentVariation]:
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


def _works(constructor: Constructor, arguments: Mapping[str, Any], inputs: Inputs) -> bool:
    tensors = [guess.tensor() for guess in inputs.values()]
    try:
        module = bind_labels(constructor.build(arguments), list(inputs))
        first, second = (eager_outputs(module, tensors, seed) for seed in (0, 1))
    except BaseException:  # noqa: BLE001 - the module rejects the argument
        return False
    return bool(first) and _same(first, second)


def _is_large(module: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in module.parameters()) > MAX_VARIED_PARAMETERS


# Batch sizes


def _batch_sizes(module: nn.Module, inputs: Inputs) -> Iterator[int]:
    """Other sizes of the first axis that the outputs have too: then the axis may be exported as dynamic."""
    guesses = [guess for guess in inputs.values() if isinstance(guess, InputGuess)]
    if len(guesses) < len(inputs):
        return
    for size in OTHER_BATCH_SIZES:
        tensors = [replace(guess, shape=(size, *guess.shape[1:])).tensor() for guess in guesses]
        try:
            outputs = eager_outputs(module, tensors, 0)
        except BaseException:  # noqa: BLE001 - the module rejects the size
            return
        if not outputs or not all(output.dim() and output.shape[0] == size for output in outputs):
            return
        yield size


def _same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True))
