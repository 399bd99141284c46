"""The samples with which torch tests its own layers, as cases: an independent choice of arguments and values.

``torch.testing._internal`` has a ModuleInfo for most layers and an OpInfo for the function of each. Each sample becomes
a case with literal values, and runs on the targets on which every layer of the notes must pass.
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
"""One case of a spec, as in the YAML file."""

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
SAMPLES_PER_LAYER = 5
"""The largest number from each source; if torch has more (1,440 for max_pool2d), they are spread over its list."""


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
            samples = info.module_inputs_func(info, "cpu", torch.float32, requires_grad=False, training=False)
            for sample in samples:
                forward = sample.forward_input
                inputs = [*forward.args, *forward.kwargs.values()]
                constructor = sample.constructor_input
                arguments = arguments_by_name(layer, constructor.args, constructor.kwargs)
                yield case(layer, arguments, inputs, {}, {})


# From a function's sample


def op_samples(layer: str) -> Iterator[Case]:
    convert, function = FUNCTIONS[layer]
    for info in databases()[1]:
        if info.name == function and not info.variant_test_name:
            for sample in info.sample_inputs("cpu", torch.float32, requires_grad=False):
                parts = convert(sample.input, sample.args, dict(sample.kwargs))
                if parts is not None:
                    yield case(layer, *parts)


Parts = tuple[Mapping[str, Any], Sequence[torch.Tensor], Mapping[str, Any], Mapping[str, torch.Tensor]]
"""The layer's arguments, its inputs, the constants of its forward, and its weights."""


def same_arguments(layer: str) -> Callable[[torch.Tensor, Sequence[Any], dict[str, Any]], Parts | None]:
    """For a function whose arguments after the input are the constructor arguments of the layer."""

    def convert(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
        return arguments_by_name(layer, args, kwargs), [x], {}, {}

    return convert


def pool(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    # The function accepts an empty stride for None, and a tuple of one for both axes; the layer documents neither.
    unpacked = [value[0] if isinstance(value, tuple) and len(value) == 1 else value for value in args]
    arguments = arguments_by_name("AvgPool2d", [None if value == () else value for value in unpacked], kwargs)
    return arguments, [x], {}, {}


def unpool(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    (indices,) = args
    forward = {"output_size": tuple(kwargs.pop("output_size"))}
    return arguments_by_name("MaxUnpool2d", (), kwargs), [x, indices], forward, {}


def linear(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    weight, *bias = args
    if weight.dim() != 2:  # a vector as weight, since torch 2.15: the layer has none
        return None
    sizes = {"out_features": weight.shape[0], "in_features": weight.shape[1], "bias": bool(bias)}
    return sizes, [x], {}, {"weight": weight, **({"bias": bias[0]} if bias else {})}


def prelu(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    (weight,) = (*args, *kwargs.values())
    return {"num_parameters": weight.numel()}, [x], {}, {"weight": weight.reshape(-1)}


def rrelu(x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]) -> Parts | None:
    # In training each call draws new slopes, so there is nothing to compare.
    return None if kwargs.pop("training", False) else (arguments_by_name("RReLU", args, kwargs), [x], {}, {})


FUNCTIONS: Mapping[str, tuple[Callable[..., Parts | None], str]] = {
    "MaxPool2d": (same_arguments("MaxPool2d"), "nn.functional.max_pool2d"),
    "AvgPool2d": (pool, "nn.functional.avg_pool2d"),
    "MaxUnpool2d": (unpool, "nn.functional.max_unpool2d"),
    "Linear": (linear, "nn.functional.linear"),
    "Sigmoid": (same_arguments("Sigmoid"), "sigmoid"),
    "Tanh": (same_arguments("Tanh"), "tanh"),
    "ReLU": (same_arguments("ReLU"), "nn.functional.relu"),
    "LeakyReLU": (same_arguments("LeakyReLU"), "nn.functional.leaky_relu"),
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
    mapping: Case = {"layer": layer, "args": dict(args)}
    mapping["inputs"] = {f"x{index}": literal(tensor) for index, tensor in enumerate(inputs)}
    if forward:
        mapping["forward"] = dict(forward)
    if weights:
        mapping["weights"] = {name: literal(tensor) for name, tensor in weights.items()}
    return mapping


def literal(tensor: torch.Tensor) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.numel():
        return {"values": tensor.detach().tolist(), "dtype": dtype}
    return {"shape": list(tensor.shape), "dtype": dtype}


def arguments_by_name(layer: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments by name."""
    arguments = inspect.signature(getattr(nn, layer)).bind(*args, **kwargs).arguments
    return {**arguments.pop("kwargs", {}), **arguments}


def spread(cases: Sequence[Case]) -> list[Case]:
    """At most :data:`SAMPLES_PER_LAYER`, spread over the list, each named by its index."""
    step = max(1, -(-len(cases) // SAMPLES_PER_LAYER))
    return [{"name": f"sample-{index}", **cases[index]} for index in range(0, len(cases), step)]


@cache
def all_cases() -> Mapping[str, Sequence[Case]]:
    """The cases by the name of their spec."""
    by_spec = {
        f"{source}-{layer}": spread(list(samples(layer)))
        for layer in NOTES
        for source, samples in (("module", module_samples), ("function", op_samples))
    }
    return {name: cases for name, cases in by_spec.items() if cases}


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
