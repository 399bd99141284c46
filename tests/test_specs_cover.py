"""The shipped specs leave no edge out: each notes layer beside each kind of number, shape, layout and type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from harness.spec.discovery import load
from harness.spec.known_failures import load_known_failures
from harness.spec.language.case import Case, Fill, LayerModel, TensorSpec
from harness.spec.language.fills import array
from harness.spec.targets import load_target_sets

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
    about = ml_dtypes.finfo(spec.dtype)  # type: ignore[no-untyped-call]
    return float(about.tiny), float(about.max)


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


def laid_out(layout: str) -> Property:
    """In this order of memory, and with so many axes and elements that it is another order than the usual one."""
    axes = 4 if layout == "channels_last" else 1
    return lambda spec: spec.layout == layout and len(spec.shape) >= axes and max(spec.shape) > 1


def empty(spec: TensorSpec) -> bool:
    return len(spec.shape) > 1 and spec.shape[0] == 0


def floating(look: Property) -> Property:
    return lambda spec: spec.dtype.startswith(("float", "bfloat")) and look(spec)


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
    "strided": laid_out("strided"),
    "channels_last": laid_out("channels_last"),
    **{dtype: of_type(dtype) for dtype in TYPES},
}
CELLS = [(layer, name) for layer in LAYERS for name in PROPERTIES]


@cache
def cases() -> Mapping[str, tuple[Case, ...]]:
    """The shipped cases of each layer that stands alone."""
    found: dict[str, list[Case]] = {layer: [] for layer in LAYERS}
    for case in load([SPECS]).cases:
        model = case.model.model
        if isinstance(model, LayerModel) and model.layer in found:
            found[model.layer].append(case)
    return {layer: tuple(held) for layer, held in found.items()}


def of_the_notes(case: Case) -> bool:
    """Whether the case is of the layers that the notes speak of, alone or in a net, and not of torch.nn's others."""
    model = case.model.model
    return not case.id.startswith("torch-nn/") and (not isinstance(model, LayerModel) or model.layer in LAYERS)


def shown(layer: str, name: str) -> Iterator[Case]:
    """The cases whose first input, the one that is computed with, has the property."""
    return (case for case in cases()[layer] if PROPERTIES[name](case.inputs[0]))


@pytest.mark.parametrize(("layer", "name"), CELLS)
def test_each_layer_is_shown_each_edge(layer: str, name: str) -> None:
    assert any(shown(layer, name)), f"no case of {layer} has {name}; add one to specs/edge/{layer.lower()}.yaml"


def test_a_cell_that_no_case_fills_is_found_out() -> None:
    """The properties look at numbers and not at names; what comes near to one does not have it."""
    of = partial(TensorSpec, "x", "float32")
    near = {
        "NaN": of((1,), values=(3.4e38,)),
        "infinity": of((1,), values=(-np.inf,)),
        "minus infinity": of((1,), values=(np.inf,)),
        "signed zeros": of((2,), values=(0.0, 0.0)),
        "ties": of((4,), values=(0.0, 0.0, 1.0, 2.0)),
        "denormals": of((2,), values=(0.0, 2e-38)),
        "huge": of((2,), values=(np.inf, 1e30)),
        "empty batch": of((2, 0), fill=Fill("normal")),
        "strided": of((1,), fill=Fill("normal"), layout="strided"),
        "channels_last": of((2, 3, 4), fill=Fill("normal"), layout="channels_last"),
    }
    assert set(near) == set(PROPERTIES) - set(TYPES)
    assert [name for name, spec in near.items() if PROPERTIES[name](spec)] == []


def test_the_readme_argues_for_each_failure_that_the_fixes_leave() -> None:
    """And for none that they do not leave."""
    readme = (ROOT / "README.md").read_text("utf-8")
    argued = set(re.findall(r"`([a-z0-9]+/[a-z0-9-]+)`", readme.split("### What the fixes leave")[1].split("\n#")[0]))
    known = load_known_failures(SPECS / "known-failures.yaml")
    targets = [str(target) for target in load_target_sets(SPECS).sets["fixes"]]
    ids = [case.id for case in load([SPECS]).cases if of_the_notes(case)]
    left = {each for each in ids for target in targets if any(entry.matches(each, target) for entry in known)}
    assert {each.partition("[")[0] for each in left} == argued
