"""The samples that torch tests its own layers with, as cases: an independent choice of arguments and values.

``torch.testing._internal`` holds a ModuleInfo for most layers and an OpInfo for the function under each. Each sample
becomes a case with literal values and is taken to the targets on which every layer of the notes must pass.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.engine.job import Job
from harness.engine.local import LocalEngine
from harness.errors import Location
from harness.result import Result
from harness.spec.case import Case, LayerModel, TensorSpec, WeightedModel
from harness.spec.targets import parse_target
from harness.verify.settings import Settings

TARGETS = (
    "trace+fixes/torch-cpu",
    "script+fixes/torch-cpu",
    "onnx-torchscript@17+fixes/ort-cpu",
    "onnx-dynamo@23+fixes/ort-cpu",
)
NOTES = (
    *("MaxPool2d", "AvgPool2d", "MaxUnpool2d", "Linear"),
    *("Sigmoid", "Tanh", "ReLU", "LeakyReLU", "PReLU", "RReLU"),
)
MOST_OF_A_LAYER = 5
"""Of each source; where torch has more (1,440 for max_pool2d), as many from all over its list."""


@cache
def databases() -> tuple[Sequence[Any], Sequence[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import module_db
    return module_db, op_db


# From a module's sample


def module_samples(layer: str) -> Iterator[Case]:
    for info in databases()[0]:
        if info.module_cls.__name__ == layer:
            given = info.module_inputs_func(info, "cpu", torch.float32, requires_grad=False, training=False)
            for sample in given:
                forward = sample.forward_input
                inputs = [*forward.args, *forward.kwargs.values()]
                built = sample.constructor_input
                yield case("ModuleInfo", layer, named(layer, built.args, built.kwargs), inputs, {}, {})


# From a function's sample


def op_samples(layer: str) -> Iterator[Case]:
    convert, function = FUNCTIONS[layer]
    for info in databases()[1]:
        if info.name == function and not info.variant_test_name:
            for sample in info.sample_inputs("cpu", torch.float32, requires_grad=False):
                made = convert(sample.input, sample.args, dict(sample.kwargs))
                if made is not None:
                    yield case("OpInfo", layer, *made)


Parts = tuple[Mapping[str, Any], Sequence[torch.Tensor], Mapping[str, Any], Mapping[str, torch.Tensor]]
"""The layer's arguments, its inputs, the constants of its forward, and its weights."""


def plainly(layer: str) -> Callable[[torch.Tensor, Sequence[Any], dict[str, Any]], Parts | None]:
    """The function takes after its input what the layer takes to be built."""

    def convert(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
        return named(layer, args, kwargs), [x], {}, {}

    return convert


def pool(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    arguments = named("AvgPool2d", args, kwargs)
    # An empty stride is torch.nn.functional's own way to say that there is none; the layer's is None.
    return {key: value for key, value in arguments.items() if value != ()}, [x], {}, {}


def unpool(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    (indices,) = args
    forward = {"output_size": tuple(kwargs.pop("output_size"))}
    return named("MaxUnpool2d", (), kwargs), [x, indices], forward, {}


def linear(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    weight, *bias = args
    sizes = {"out_features": weight.shape[0], "in_features": weight.shape[1], "bias": bool(bias)}
    return sizes, [x], {}, {"weight": weight, **({"bias": bias[0]} if bias else {})}


def prelu(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    (weight,) = (*args, *kwargs.values())
    return {"num_parameters": weight.numel()}, [x], {}, {"weight": weight.reshape(-1)}


def rrelu(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    # In training each call draws anew, so that there is nothing to be compared.
    return None if kwargs.pop("training", False) else (named("RReLU", args, kwargs), [x], {}, {})


FUNCTIONS: Mapping[str, tuple[Callable[..., Parts | None], str]] = {
    "MaxPool2d": (plainly("MaxPool2d"), "nn.functional.max_pool2d"),
    "AvgPool2d": (pool, "nn.functional.avg_pool2d"),
    "MaxUnpool2d": (unpool, "nn.functional.max_unpool2d"),
    "Linear": (linear, "nn.functional.linear"),
    "Sigmoid": (plainly("Sigmoid"), "sigmoid"),
    "Tanh": (plainly("Tanh"), "tanh"),
    "ReLU": (plainly("ReLU"), "nn.functional.relu"),
    "LeakyReLU": (plainly("LeakyReLU"), "nn.functional.leaky_relu"),
    "PReLU": (prelu, "nn.functional.prelu"),
    "RReLU": (rrelu, "nn.functional.rrelu"),
}


# Into a case


def case(
    source: str,
    layer: str,
    args: Mapping[str, Any],
    inputs: Sequence[torch.Tensor],
    forward: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
) -> Case:
    made = LayerModel(layer, args, forward)
    shapes = " ".join(str(tuple(tensor.shape)).replace(" ", "") for tensor in inputs)
    said = ",".join(f"{key}={value}".replace(" ", "") for key, value in {**args, **forward}.items())
    return Case(
        id=f"{source}/{layer}[{said}] {shapes}",
        about="",
        model=WeightedModel(made, {name: literal(name, tensor) for name, tensor in weights.items()}),
        inputs=tuple(literal(f"x{at}", tensor) for at, tensor in enumerate(inputs)),
        where=Location(__file__),
    )


def literal(label: str, tensor: torch.Tensor) -> TensorSpec:
    values = tensor.detach().tolist()
    return TensorSpec(label, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tuples(values))


def tuples(values: Any) -> Any:
    return tuple(map(tuples, values)) if isinstance(values, list) else values


def named(layer: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments by name."""
    given = inspect.signature(getattr(nn, layer)).bind(*args, **kwargs).arguments
    return {**given.pop("kwargs", {}), **given}


def spread(cases: Sequence[Case]) -> list[Case]:
    """At most :data:`MOST_OF_A_LAYER`, from all over the list, each with its number in it."""
    step = max(1, -(-len(cases) // MOST_OF_A_LAYER))
    return [replace(cases[at], id=f"{cases[at].id} #{at}") for at in range(0, len(cases), step)]


@cache
def all_cases() -> tuple[Case, ...]:
    return tuple(
        case for layer in NOTES for source in (module_samples, op_samples) for case in spread(list(source(layer)))
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Every sample on every target."""
    folder = tmp_path_factory.mktemp("samples")
    targets = tuple(map(parse_target, TARGETS))
    journal, settings = folder / "journal", Settings(latency=False)
    jobs = [Job(sample, targets, settings, journal, folder, Path.cwd()) for sample in all_cases()]
    return list(LocalEngine(2, journal, folder).run(jobs))


def test_every_layer_of_the_notes_is_among_the_samples() -> None:
    counts = {layer: sum(f"/{layer}[" in sample.id for sample in all_cases()) for layer in NOTES}
    assert min(counts.values()) >= 2, counts
    assert {sample.id.partition("/")[0] for sample in all_cases()} == {"ModuleInfo", "OpInfo"}


def test_every_sample_passes_on_every_target(results: list[Result]) -> None:
    assert len(results) == len(all_cases()) * len(TARGETS)
    wrong = [f"{one.case} on {one.target}: {one.stage} {one.message}" for one in results if one.status != "passed"]
    assert wrong == []


def test_something_was_compared_in_each(results: list[Result]) -> None:
    assert all(one.outputs for one in results)
    assert sum(output.of for one in results for output in one.outputs) > 10_000
