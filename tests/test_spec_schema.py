"""The JSON Schema for editors accepts all valid specs and refuses the invalid ones that a schema can detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.spec.language.schema import json_schema
from harness.spec.yaml import parse, read
from tests.test_spec_expand import CONTRACT, DEFAULTS

SPECS = Path(__file__).parent.parent / "specs"
SHIPPED = sorted(path for path in SPECS.rglob("*.yaml") if path.name not in {"targets.yaml", "known-failures.yaml"})
VALIDATOR = Draft202012Validator(json_schema())


def as_json(value: Any) -> Any:
    """JSON has only string keys; editors see YAML's whole numbers as strings."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def schema_errors(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(as_json(parse(text, "f").plain()))]


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", SHIPPED, ids=[path.relative_to(SPECS).as_posix() for path in SHIPPED])
def test_every_shipped_spec_is_valid(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(as_json(read(path).plain()))] == []


def test_there_are_shipped_specs() -> None:
    assert len(SHIPPED) > 10


EVERYTHING = """
harness: 1
about: Every key there is.
graph:
  - {layer: MaxPool2d, args: {kernel_size: 2, return_indices: true}, in: x, out: [p, i]}
  - {layer: MaxUnpool2d, args: {kernel_size: 2}, forward: {output_size: [5, 5]}, in: [p, i], out: y}
returns: [y]
defaults:
  mode: train
  dtype: float64
  seed: 3
  inputs: {x: {shape: [1, 1, 5, 5], fill: {uniform: [-1, 1]}, dtype: float16, layout: strided, seed: 4}}
  dynamic: {x: {0: N}}
  also: [[2, 1, 5, 5], {x: [0, 1, 5, 5]}]
  bench: [[64, 1, 5, 5]]
  tolerance: {ulp: 1, by_output: {0: exact, 1: {rtol: 1.0e-3, atol: 0}}}
cases:
  - {name: a.b-c_D, about: x, expect: {gradient: y, shape: [1], range: [0, .inf], gradient_range: [0, 1]}}
  - {name: b, expect: {gradient: {x: y}, shape: [[1], []], raises: words, outputs: [{values: [[1, .nan]]}]}}
  - {name: c, tolerance: exact, sequential: [{layer: ReLU}]}
  - {name: d, factory: 'a.b:c', args: {anything: {at: [all, null]}}, tolerance: {scaled: 2}}
  - {name: e, layer: ReLU, weights: {a.b: {fill: {choice: [1, 2]}}}, expect: {formula: y, equals: {layer: ELU}}}
  - {name: f, count: 3, matrix: {inputs.x.fill: [ones, {full: true}]}, exclude: [{inputs.x.fill: ones}]}
"""


@pytest.mark.parametrize("text", [CONTRACT, DEFAULTS, EVERYTHING], ids=["contract", "defaults", "everything"])
def test_specs_that_harness_accepts_are_valid(text: str) -> None:
    assert schema_errors(text) == []


CASE = "harness: 1\nlayer: ReLU\ncases: [{name: a, %s}]"


@pytest.mark.parametrize(
    "keys",
    [
        "nam: b",
        "name: a b",
        "mode: evil",
        "dtype: int8",
        "tolerance: exactly",
        "tolerance: {ulp: -1}",
        "inputs: {x: {shape: [two]}}",
        "inputs: {x: {shape: [-1]}}",
        "inputs: {x: {fill: one}}",
        "inputs: {x: {fill: {uniform: [1]}}}",
        "inputs: {x: {layout: tiled}}",
        "inputs: {a b: {shape: [1]}}",
        "expect: {rang: [0, 1]}",
        "expect: {range: [0]}",
        "expect: {gradient: 3}",
        "matrix: {}",
        "matrix: {mode: eval}",
        "sequential: []",
        "sequential: [{args: {}}]",
        "graph: [{layer: ReLU, in: x}]",
        "factory: os.system",
        "also: [[-1]]",
    ],
)
def test_specs_of_a_wrong_form_are_invalid(keys: str) -> None:
    assert schema_errors(CASE % keys.replace("name: a b", "about: 3"))


@pytest.mark.parametrize(
    "text", ["harness: 2\ncases: [{name: a}]", "harness: 1", "harness: 1\ncases: []", "cases: [{name: a}]"]
)
def test_a_file_without_required_keys_is_invalid(text: str) -> None:
    assert schema_errors(text)
