"""What might fit a module that is not known: arguments by their names, inputs by the layers inside.

What a module takes, found by trying: nothing goes into a first spec that eager torch refuses.
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
from harness.scaffold.subject import Subject

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


# The old ways to say `reduction`, about which torch warns; and what is said otherwise in a spec.
NOT_VARIED = {"size_average", "reduce", "inplace", "device", "dtype"}
OTHER_BATCHES = (1, 5)
LARGE = 20_000_000


@dataclass(frozen=True, slots=True)
class Varied:
    """An argument with other values of it that work, and what stands ``beside`` it."""

    name: str
    values: tuple[Any, ...]
    beside: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What works: the arguments, the inputs by label, other values of single arguments, and other batches."""

    arguments: Mapping[str, Any]
    inputs: Mapping[str, Draft]
    varied: tuple[Varied, ...]
    batches: tuple[int, ...]


def find_out(subject: Subject, given: Mapping[str, Any], shapes: Sequence[Draft]) -> Found:
    """Try ``subject`` until it answers; ``given`` arguments and the ``shapes`` of inputs are not guessed.

    Raises :class:`UsageError` where it does not, or answers differently each time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = _arguments(subject, given)
        module = _built(subject, arguments)
        labels = _labels(module, len(shapes))
        inputs = _inputs(subject, module, labels, shapes)
        tensors = [draft.tensor() for draft in inputs.values()]
        if not _same(*(eager_outputs(module, tensors, seed) for seed in (0, 1))):
            said = "answers differently each time; write its spec by hand, with what must hold under `expect`"
            raise UsageError(f"{subject.short}: {said}")
        varied = () if _is_large(module) else tuple(_varied(subject, arguments, inputs))
        return Found(arguments, inputs, varied, tuple(_batches(module, inputs)))


def _arguments(subject: Subject, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor must be given. Raises :class:`UsageError` for what nobody could guess."""
    known = {*subject.needed, *subject.defaults}
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"--arg {unknown[0]}: {subject.short} has no such argument; it has {', '.join(sorted(known))}")
    if missing := [name for name in subject.needed if name not in given and name not in ARGUMENTS]:
        raise UsageError(f"{subject.short} cannot be built without {missing[0]}; say it with --arg {missing[0]}=VALUE")
    guessed = {name: ARGUMENTS[name] for name in subject.needed if name not in given}
    guessed |= {name: value for name, value in OPTIONAL.items() if subject.defaults.get(name, value) is None}
    return {**guessed, **given}


def _built(subject: Subject, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return subject.build(arguments)
    except Exception as error:
        said = ", ".join(f"{name}={value}" for name, value in arguments.items())
        right = "say its arguments with --arg NAME=VALUE"
        raise UsageError(f"{subject.short}({said}): {class_name(error)}: {_short(error)}; {right}") from error


def _labels(module: nn.Module, asked: int) -> list[str]:
    """The names of the inputs: of those that `forward` needs, or of as many as were asked for.

    Raises :class:`UsageError` where `forward` takes nothing at all.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    if not parameters:
        raise UsageError(f"{type(module).__name__}: its forward takes nothing; harness needs a module with an input")
    ordered = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    needed = sum(each.default is each.empty for each in ordered)
    names = [each.name for each in ordered][: asked or needed]
    names += [f"x{at}" for at in range(len(names), asked)]
    return names or ["x"]


def _inputs(subject: Subject, module: nn.Module, labels: Sequence[str], shapes: Sequence[Draft]) -> dict[str, Draft]:
    """The first inputs that the module answers. Raises :class:`UsageError` where there are none."""
    last: Exception | None = None
    for guess in [tuple(shapes)] if shapes else drafts(module, len(labels)):
        try:
            if eager_outputs(module, [draft.tensor() for draft in guess], 0):
                return dict(zip(labels, guess, strict=True))
        except Exception as error:  # noqa: BLE001 - a guess that the module refuses
            last = error
    tried = "does not take this" if shapes else f"was tried with inputs of many shapes for {', '.join(labels)}"
    why = f": {_short(last)}" if last else " and answers with no tensor"
    raise UsageError(f"{subject.short} {tried}{why}; say what it takes with --input, such as --input 1,3,224,224")


def _is_large(module: nn.Module) -> bool:
    """True where building it again for each of its arguments would take long, here and in every run."""
    return sum(parameter.numel() for parameter in module.parameters()) > LARGE


def _varied(subject: Subject, arguments: Mapping[str, Any], inputs: Mapping[str, Draft]) -> Iterator[Varied]:
    """Each argument that was left out with the other values of it that work."""
    for name, default in subject.defaults.items():
        if name in NOT_VARIED or name in arguments:
            continue
        beside = {each: value for each, value in TOGETHER.get(name, {}).items() if each in subject.defaults}
        others = variants(default, subject.words.get(name, ()))
        if works := tuple(each for each in others if _works(subject, {**arguments, **beside, name: each}, inputs)):
            yield Varied(name, works, beside)


def _works(subject: Subject, arguments: Mapping[str, Any], inputs: Mapping[str, Draft]) -> bool:
    tensors = [draft.tensor() for draft in inputs.values()]
    try:
        module = subject.build(arguments)
        once, twice = (eager_outputs(module, tensors, seed) for seed in (0, 1))
    except BaseException:  # noqa: BLE001 - an argument that the module refuses
        return False
    return bool(once) and _same(once, twice)


def _batches(module: nn.Module, inputs: Mapping[str, Draft]) -> Iterator[int]:
    """Other sizes of the first axis, where it goes through to the answer: then it may be exported open."""
    for size in OTHER_BATCHES:
        others = [replace(draft, shape=(size, *draft.shape[1:])).tensor() for draft in inputs.values()]
        try:
            answer = eager_outputs(module, others, 0)
        except BaseException:  # noqa: BLE001 - a size that the module refuses
            return
        if not answer or not all(each.dim() and each.shape[0] == size for each in answer):
            return
        yield size


def _same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(first, second, strict=True))


def _short(error: BaseException) -> str:
    return " ".join(bounded_text(error).split())[:160] or class_name(error)
