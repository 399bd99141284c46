"""The samples that torch tests its own layers with, as cases: an independent choice of arguments and values.

``torch.testing._internal`` holds a ModuleInfo for most layers and an OpInfo for the function under each. Each sample
becomes a case of a spec with literal values, and is taken to the targets on which every layer of the notes must pass.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.conftest import Call

Case = dict[str, Any]
"""One case of a spec, as it is written."""

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
                yield case(layer, named(layer, built.args, built.kwargs), inputs, {}, {})


# From a function's sample


def op_samples(layer: str) -> Iterator[Case]:
    convert, function = FUNCTIONS[layer]
    for info in databases()[1]:
        if info.name == function and not info.variant_test_name:
            for sample in info.sample_inputs("cpu", torch.float32, requires_grad=False):
                made = convert(sample.input, sample.args, dict(sample.kwargs))
                if made is not None:
                    yield case(layer, *made)


Parts = tuple[Mapping[str, Any], Sequence[torch.Tensor], Mapping[str, Any], Mapping[str, torch.Tensor]]
"""The layer's arguments, its inputs, the constants of its forward, and its weights."""


def plainly(layer: str) -> Callable[[torch.Tensor, Sequence[Any], dict[str, Any]], Parts | None]:
    """The function takes after its input what the layer takes to be built."""

    def convert(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
        return named(layer, args, kwargs), [x], {}, {}

    return convert


def pool(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    # The function takes an empty stride for none, and one number in a tuple for both axes; the layer documents neither.
    given = [value[0] if isinstance(value, tuple) and len(value) == 1 else value for value in args]
    arguments = named("AvgPool2d", [None if value == () else value for value in given], kwargs)
    return arguments, [x], {}, {}


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


# Into a spec


def case(
    layer: str,
    args: Mapping[str, Any],
    inputs: Sequence[torch.Tensor],
    forward: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
) -> Case:
    written: Case = {"layer": layer, "args": dict(args)}
    written["inputs"] = {f"x{at}": literal(tensor) for at, tensor in enumerate(inputs)}
    if forward:
        written["forward"] = dict(forward)
    if weights:
        written["weights"] = {name: literal(tensor) for name, tensor in weights.items()}
    return written


def literal(tensor: torch.Tensor) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.numel():
        return {"values": tensor.detach().tolist(), "dtype": dtype}
    return {"shape": list(tensor.shape), "dtype": dtype}


def named(layer: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments by name."""
    given = inspect.signature(getattr(nn, layer)).bind(*args, **kwargs).arguments
    return {**given.pop("kwargs", {}), **given}


def spread(cases: Sequence[Case]) -> list[Case]:
    """At most :data:`MOST_OF_A_LAYER`, from all over the list, each called by its place in it."""
    step = max(1, -(-len(cases) // MOST_OF_A_LAYER))
    return [{"name": f"sample-{at}", **cases[at]} for at in range(0, len(cases), step)]


@cache
def all_cases() -> Mapping[str, Sequence[Case]]:
    """The cases by the name of the spec that they stand in."""
    found = {
        f"{source}-{layer}": spread(list(samples(layer)))
        for layer in NOTES
        for source, samples in (("module", module_samples), ("function", op_samples))
    }
    return {name: cases for name, cases in found.items() if cases}


def test_every_layer_of_the_notes_is_among_the_samples() -> None:
    counts = {
        layer: sum(len(cases) for name, cases in all_cases().items() if name.endswith(f"-{layer}")) for layer in NOTES
    }
    assert min(counts.values()) >= 2, counts
    assert {name.partition("-")[0] for name in all_cases()} == {"module", "function"}


def test_every_sample_passes_on_every_target(harness: Call, spec: Callable[[str, str], Path]) -> None:
    for name, cases in all_cases().items():
        spec(f"{name}.yaml", json.dumps({"harness": 1, "cases": cases}))
    ran = harness("run", "specs", "--no-latency", "-j", "2", "--targets", ",".join(TARGETS))
    assert ran.code == 0, ran.err or ran.out
    rows = ran.report["results"]
    wrong = [f"{row['case']} on {row['target']}: {row['message']}" for row in rows if row["status"] != "passed"]
    assert wrong == []
    assert ran.code == 0
    assert len(rows) == sum(map(len, all_cases().values())) * len(TARGETS)
    assert all(row["outputs"] for row in rows), "nothing was compared"
    assert sum(output["of"] for row in rows for output in row["outputs"]) > 10_000
