"""What a module takes, found by trying: nothing goes into a first spec that eager torch refuses."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from harness.errors import UsageError
from harness.model.build import answers
from harness.starter.guesses import ARGUMENTS, OPTIONAL, TOGETHER, Draft, drafts, variants
from harness.starter.subject import Subject
from harness.verify.causes import kind_of, read

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
        if not _same(*(answers(module, tensors, seed) for seed in (0, 1))):
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
        raise UsageError(f"{subject.short}({said}): {kind_of(error)}: {_short(error)}; {right}") from error


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
            if answers(module, [draft.tensor() for draft in guess], 0):
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
        once, twice = (answers(module, tensors, seed) for seed in (0, 1))
    except BaseException:  # noqa: BLE001 - an argument that the module refuses
        return False
    return bool(once) and _same(once, twice)


def _batches(module: nn.Module, inputs: Mapping[str, Draft]) -> Iterator[int]:
    """Other sizes of the first axis, where it goes through to the answer: then it may be exported open."""
    for size in OTHER_BATCHES:
        others = [replace(draft, shape=(size, *draft.shape[1:])).tensor() for draft in inputs.values()]
        try:
            answer = answers(module, others, 0)
        except BaseException:  # noqa: BLE001 - a size that the module refuses
            return
        if not answer or not all(each.dim() and each.shape[0] == size for each in answer):
            return
        yield size


def _same(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip(first, second, strict=True))


def _short(error: BaseException) -> str:
    return " ".join(read(error).split())[:160] or kind_of(error)
