"""The shipped specs cover each layer of the notes with each kind of number, shape, layout and dtype."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from harness.spec.discovery import load_specs
from harness.spec.known_failures import load_known_failures
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec
from harness.spec.language.inputs.fills import array
from harness.spec.targets.sets import load_target_sets

ROOT = Path(__file__).parent.parent
SPECS = ROOT / "specs"
LAYERS = (
    "MaxPool2d",
    "AvgPool2d",
    "MaxUnpool2d",
    "Linear",
    "Sigmoid",
    "Tanh",
    "ReLU",
    "LeakyReLU",
    "PReLU",
    "RReLU",
)
TYPES = ("float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8")
Property = Callable[[TensorSpec], bool]


def finite(spec: TensorSpec) -> Any:
    """The magnitudes of the finite numbers of a floating tensor, in float64."""
    values = array(spec).astype(np.float64)
    return np.abs(values[np.isfinite(values)])


def limits(spec: TensorSpec) -> tuple[float, float]:
    """The least normal and the greatest number of the dtype."""
    info = ml_dtypes.finfo(spec.dtype)  # type: ignore[no-untyped-call]
    return float(info.tiny), float(info.max)


def has(value: float) -> Property:
    return lambda spec: bool(np.any(array(spec).astype(np.float64) == value))


def nan(spec: TensorSpec) -> bool:
    return bool(np.isnan(array(spec).astype(np.float64)).any())


def both_zeros(spec: TensorSpec) -> bool:
    values = array(spec).astype(np.float64)
    return {bool(sign) for sign in np.signbit(values[values == 0])} == {True, False}


def ties(spec: TensorSpec) -> bool:
    values = finite(spec)
    return bool(np.unique(values[values > 0]).size < np.count_nonzero(values))


def denormals(spec: TensorSpec) -> bool:
    values = finite(spec)
    return bool(((values > 0) & (values < limits(spec)[0])).any())


def huge(spec: TensorSpec) -> bool:
    return bool((finite(spec) > limits(spec)[1] / 50).any())


def with_layout(layout: str) -> Property:
    """In this memory layout, with enough axes and elements that it differs from the contiguous one."""
    axes = 4 if layout == "channels_last" else 1
    return lambda spec: spec.layout == layout and len(spec.shape) >= axes and max(spec.shape) > 1


def empty(spec: TensorSpec) -> bool:
    return len(spec.shape) > 1 and spec.shape[0] == 0


def floating(numbers: Property) -> Property:
    return lambda spec: spec.dtype.startswith(("float", "bfloat")) and numbers(spec)


def of_type(dtype: str) -> Property:
    return lambda spec: spec.dtype == dtype


PROPERTIES: Mapping[str, Property] = {
    "NaN": floating(nan),
    "infinity": floating(has(np.inf)),
    "minus infinity": floating(has(-np.inf)),
    "signed zeros": floating(both_zeros),
    "ties": floating(ties),
    "denormals": floating(denormals),
    "huge": floating(huge),
    "empty batch": empty,
    "strided": with_layout("strided"),
    "channels_last": with_layout("channels_last"),
    **{dtype: of_type(dtype) for dtype in TYPES},
}
CELLS = [(layer, name) for layer in LAYERS for name in PROPERTIES]


@cache
def cases() -> Mapping[str, tuple[Case, ...]]:
    """The shipped cases of each single layer."""
    by_layer: dict[str, list[Case]] = {layer: [] for layer in LAYERS}
    for case in load_specs([SPECS]).cases:
        model = case.model.model
        if isinstance(model, LayerModel) and model.layer in by_layer:
            by_layer[model.layer].append(case)
    return {layer: tuple(cases) for layer, cases in by_layer.items()}


def of_the_notes(case: Case) -> bool:
    """True for cases of the notes' layers, alone or in a network; False for other layers of torch.nn."""
    model = case.model.model
    return not case.id.startswith("torch-nn/") and (not isinstance(model, LayerModel) or model.layer in LAYERS)


def cases_with(layer: str, name: str) -> Iterator[Case]:
    """The cases where the first input of the layer has the property."""
    return (case for case in cases()[layer] if PROPERTIES[name](case.inputs[0]))


@pytest.mark.parametrize(("layer", "name"), CELLS)
def test_each_layer_has_a_case_with_each_property(layer: str, name: str) -> None:
    assert any(cases_with(layer, name)), f"no case of {layer} has {name}; add one to specs/edge/{layer.lower()}.yaml"


def test_a_near_miss_does_not_have_the_property() -> None:
    """Tensors that nearly have a property do not count."""
    tensor = partial(TensorSpec, "x", "float32")
    near = {
        "NaN": tensor((1,), values=(3.4e38,)),
        "infinity": tensor((1,), values=(-np.inf,)),
        "minus infinity": tensor((1,), values=(np.inf,)),
        "signed zeros": tensor((2,), values=(0.0, 0.0)),
        "ties": tensor((4,), values=(0.0, 0.0, 1.0, 2.0)),
        "denormals": tensor((2,), values=(0.0, 2e-38)),
        "huge": tensor((2,), values=(np.inf, 1e30)),
        "empty batch": tensor((2, 0), fill=Fill("normal")),
        "strided": tensor((1,), fill=Fill("normal"), layout="strided"),
        "channels_last": tensor((2, 3, 4), fill=Fill("normal"), layout="channels_last"),
    }
    assert set(near) == set(PROPERTIES) - set(TYPES)
    assert [name for name, spec in near.items() if PROPERTIES[name](spec)] == []


def test_the_reference_explains_each_failure_that_remains_with_the_fixes() -> None:
    """The page explains no other failure."""
    page = (ROOT / "docs" / "reference.md").read_text("utf-8")
    explained = set(re.findall(r"`([a-z0-9]+/[a-z0-9-]+)`", page.split("### What the fixes leave")[1].split("\n#")[0]))
    known_failures = load_known_failures(SPECS / "known-failures.yaml")
    targets = [str(target) for target in load_target_sets(SPECS).sets["fixes"]]
    ids = [case.id for case in load_specs([SPECS]).cases if of_the_notes(case)]
    remaining = {
        each for each in ids for target in targets if any(entry.matches(each, target) for entry in known_failures)
    }
    assert {each.partition("[")[0] for each in remaining} == explained
