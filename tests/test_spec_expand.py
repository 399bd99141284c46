from __future__ import annotations

import fnmatch
import math
from itertools import product
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.spec.language.case import (
    Case,
    FactoryModel,
    Fill,
    GraphModel,
    GraphNode,
    LayerModel,
    SequentialModel,
    WeightedModel,
)
from harness.spec.language.expand import expand
from harness.spec.language.tolerances import CaseTolerance, Close, Exact, Scaled, Ulp
from harness.spec.quoting import flow_yaml, id_label
from harness.spec.yaml import parse


def cases(text: str, *, allow_import: bool = False) -> dict[str, Case]:
    return {case.id: case for case in expand(parse(text, "dir/f.yaml"), "f", allow_import=allow_import)}


def only(text: str, *, allow_import: bool = False) -> Case:
    (case,) = cases(text, allow_import=allow_import).values()
    return case


def relu(keys: str) -> Case:
    return only(f"harness: 1\nlayer: ReLU\ncases: [{{name: a, {keys}}}]")


X = "inputs: {x: {shape: [2, 3]}}"

CONTRACT = """
harness: 1                       # format version
about: 2-D average pooling.
layer: AvgPool2d                 # a torch.nn class
defaults:                        # merged under every case
  inputs: {x: {shape: [2, 3, 7, 7]}}
cases:
  - name: notes-divisor-override
    about: Four ones divided by three.
    args: {kernel_size: [2, 2], stride: [2, 2], divisor_override: 3}
    inputs: {x: {shape: [1, 1, 4, 4], fill: ones}}
    expect: {outputs: [{shape: [1, 1, 2, 2], fill: {full: 1.3333333333333333}}]}
  - name: windows
    matrix:                      # every combination; a dotted path says what is set
      args.kernel_size: [2, 3, [2, 3]]
      args.ceil_mode: [true, false]
      inputs.x.shape: [[2, 3, 7, 7], [1, 1, 4, 5]]
    exclude: [{args.kernel_size: 2, args.ceil_mode: true}]
"""


def test_the_example_of_the_contract() -> None:
    by_id = cases(CONTRACT)
    assert len(by_id) == 1 + 3 * 2 * 2 - 2
    notes = by_id["f/notes-divisor-override"]
    assert notes.about == "Four ones divided by three."
    assert notes.model == WeightedModel(
        LayerModel("AvgPool2d", {"kernel_size": (2, 2), "stride": (2, 2), "divisor_override": 3})
    )
    x = notes.inputs[0]
    assert (x.label, x.shape, x.dtype, x.fill, x.values) == ("x", (1, 1, 4, 4), "float32", Fill("ones"), None)
    assert notes.expect.outputs is not None
    assert notes.expect.outputs[0].fill == Fill("full", (1.3333333333333333,))
    assert str(notes.where) == "dir/f.yaml:8:5"
    point = by_id["f/windows[args.kernel_size=[2,3],args.ceil_mode=true,inputs.x.shape=[1,1,4,5]]"]
    assert point.model.model == LayerModel("AvgPool2d", {"kernel_size": (2, 3), "ceil_mode": True})
    assert point.inputs[0].shape == (1, 1, 4, 5)
    assert "f/windows[args.kernel_size=2,args.ceil_mode=true,inputs.x.shape=[1,1,4,5]]" not in by_id
    assert "f/windows[args.kernel_size=2,args.ceil_mode=false,inputs.x.shape=[1,1,4,5]]" in by_id


# Defaults


DEFAULTS = """
harness: 1
layer: Linear
defaults:
  args: {in_features: 3, out_features: 2}
  inputs: {x: {shape: [4, 3], fill: ones, dtype: float64}}
  weights: {bias: {values: [0, 0]}}
  expect: {range: [-9, 9], shape: [4, 2]}
  tolerance: {ulp: 4}
cases:
  - {name: as-they-are}
  - {name: args, args: {bias: false}, weights: {weight: {fill: zeros}}}
  - {name: values, inputs: {x: {values: [[1, 2, 3]]}}, expect: {shape: [1, 2]}}
  - {name: shape, inputs: {x: {shape: [1, 3]}}, tolerance: exact}
  - {name: other, layer: ReLU}
  - {name: fill, inputs: {x: {fill: {full: 2}}}}
"""


def test_defaults_are_merged_under_every_case() -> None:
    by_id = cases(DEFAULTS)
    plain = by_id["f/as-they-are"]
    assert plain.model.model == LayerModel("Linear", {"in_features": 3, "out_features": 2})
    assert (plain.expect.range, plain.expect.shape) == ((-9, 9), ((4, 2),))
    assert plain.tolerance == CaseTolerance(Ulp(4))
    merged = by_id["f/args"].model
    assert merged.model == LayerModel("Linear", {"in_features": 3, "out_features": 2, "bias": False})
    assert sorted(merged.weights) == ["bias", "weight"]
    expect = by_id["f/values"].expect
    assert (expect.range, expect.shape) == ((-9, 9), ((1, 2),))
    assert by_id["f/shape"].tolerance == CaseTolerance(Exact())


def test_a_tensor_is_merged_key_by_key_and_drops_the_keys_it_replaces() -> None:
    by_id = cases(DEFAULTS)
    values = by_id["f/values"].inputs[0]
    assert (values.values, values.shape, values.fill, values.dtype) == (((1, 2, 3),), (1, 3), None, "float64")
    shape = by_id["f/shape"].inputs[0]
    assert (shape.shape, shape.fill, shape.dtype) == ((1, 3), Fill("ones"), "float64")
    fill = by_id["f/fill"].inputs[0]
    assert (fill.shape, fill.fill) == ((4, 3), Fill("full", (2,)))


def test_a_shape_replaces_the_values_of_the_defaults() -> None:
    text = """
harness: 1
layer: ReLU
defaults: {inputs: {x: {values: [1, 2], dtype: float64}}}
cases: [{name: a, inputs: {x: {shape: [5]}}}, {name: b, matrix: {inputs.x.shape: [[6]], inputs.x.fill: [ones]}}]
"""
    first, second = cases(text).values()
    assert (first.inputs[0].values, first.inputs[0].shape, first.inputs[0].dtype) == (None, (5,), "float64")
    assert (second.inputs[0].values, second.inputs[0].shape, second.inputs[0].fill) == (None, (6,), Fill("ones"))


def test_a_case_with_its_own_model_drops_the_arguments_of_the_file_s_model() -> None:
    other = cases(DEFAULTS)["f/other"]
    assert other.model == WeightedModel(LayerModel("ReLU"))
    assert other.inputs[0].shape == (4, 3)


def test_defaults_without_a_model_serve_cases_with_one() -> None:
    case = only(f"harness: 1\ndefaults: {{args: {{inplace: true}}, {X}}}\ncases: [{{name: a, layer: ReLU}}]")
    assert case.model.model == LayerModel("ReLU", {"inplace": True})


# All keys of a case


def test_defaults_of_a_case() -> None:
    case = relu(X)
    assert (case.mode, case.dtype, case.about, case.tolerance) == ("eval", "float32", "", CaseTolerance())
    assert (case.dynamic, case.also, case.bench) == ({}, (), ())
    assert case.inputs[0].fill == Fill("normal")
    assert case.inputs[0].layout == "contiguous"


def test_tensors_without_a_dtype_have_the_case_s_dtype() -> None:
    case = relu("dtype: bfloat16, inputs: {x: {shape: [2], layout: strided}, }, expect: {outputs: [{values: [1, 2]}]}")
    assert case.inputs[0].dtype == "bfloat16"
    assert case.inputs[0].layout == "strided"
    assert case.expect.outputs is not None
    assert case.expect.outputs[0].dtype == "bfloat16"
    assert relu("inputs: {x: {values: [1, 2], dtype: int64}}").inputs[0].dtype == "int64"


def test_literal_values_keep_every_kind_of_number() -> None:
    values: Any = relu("inputs: {x: {values: [[.nan, -.inf], [-0.0, 1e-5]]}}").inputs[0].values
    assert math.isnan(values[0][0])
    assert values[0][1] == -math.inf
    assert math.copysign(1, values[1][0]) == -1
    assert values[1][1] == 1e-5


@pytest.mark.parametrize(
    ("written", "fill"),
    [
        ("normal", Fill("normal")),
        ("arange", Fill("arange")),
        ("{uniform: [-1, 2.5]}", Fill("uniform", (-1, 2.5))),
        ("{integers: [0, 4]}", Fill("integers", (0, 4))),
        ("{full: .inf}", Fill("full", (math.inf,))),
        ("{choice: [-0.0, 1]}", Fill("choice", (-0.0, 1))),
    ],
)
def test_fills(written: str, fill: Fill) -> None:
    assert relu(f"inputs: {{x: {{shape: [2], fill: {written}}}}}").inputs[0].fill == fill


def test_empty_and_scalar_shapes_are_shapes() -> None:
    assert relu("inputs: {x: {shape: [0, 3]}}").inputs[0].shape == (0, 3)
    assert relu("inputs: {x: {shape: []}}").inputs[0].shape == ()
    assert relu("inputs: {x: {values: []}}").inputs[0].shape == (0,)
    assert relu("inputs: {x: {values: 3}}").inputs[0].shape == ()
    assert relu("inputs: {x: {values: [[], []]}}").inputs[0].shape == (2, 0)


@pytest.mark.parametrize(
    ("written", "tolerance"),
    [
        ("exact", CaseTolerance(Exact())),
        ("{ulp: 0}", CaseTolerance(Ulp(0))),
        ("{rtol: 1e-5, atol: 0}", CaseTolerance(Close(1e-5, 0.0))),
        ("{atol: 1}", CaseTolerance(Close(0.0, 1.0))),
        ("{scaled: 2.5}", CaseTolerance(Scaled(2.5))),
        ("{by_output: {0: {ulp: 1}, 1: exact}}", CaseTolerance(None, {0: Ulp(1), 1: Exact()})),
        ("{ulp: 3, by_output: {1: exact}}", CaseTolerance(Ulp(3), {1: Exact()})),
    ],
)
def test_tolerances(written: str, tolerance: CaseTolerance) -> None:
    assert relu(f"{X}, tolerance: {written}").tolerance == tolerance


def test_a_bare_gradient_is_the_first_input_s_and_a_bare_shape_the_first_output_s() -> None:
    expect = relu(f"{X}, expect: {{gradient: '2 * x', shape: [2, 3], raises: no}}").expect
    assert expect.gradient == {"x": "2 * x"}
    assert expect.shape == ((2, 3),)
    assert expect.raises == "no"
    assert relu(f"{X}, expect: {{shape: [[2], []]}}").expect.shape == ((2,), ())
    assert relu(f"{X}, expect: {{shape: []}}").expect.shape == ((),)


def test_models_of_every_kind() -> None:
    sequential = only(
        f"harness: 1\nsequential: [{{layer: ReLU}}, {{layer: ELU, args: {{alpha: 2}}}}]\ncases: [{{name: a, {X}}}]"
    )
    assert sequential.model.model == SequentialModel((LayerModel("ReLU"), LayerModel("ELU", {"alpha": 2})))
    graph = only("""
harness: 1
graph:
  - {layer: MaxPool2d, args: {kernel_size: 2, return_indices: true}, in: x, out: [pooled, indices]}
  - {layer: MaxUnpool2d, args: {kernel_size: 2}, forward: {output_size: [5, 5]}, in: [pooled, indices], out: y}
returns: y
cases: [{name: a, inputs: {x: {shape: [1, 1, 5, 5]}}}]
""")
    assert graph.model.model == GraphModel(
        (
            GraphNode(
                LayerModel("MaxPool2d", {"kernel_size": 2, "return_indices": True}), ("x",), ("pooled", "indices")
            ),
            GraphNode(
                LayerModel("MaxUnpool2d", {"kernel_size": 2}, {"output_size": (5, 5)}), ("pooled", "indices"), ("y",)
            ),
        ),
        ("y",),
    )
    factory = f"""
harness: 1
factory: mine.models:build
defaults: {{args: {{sizes: [1, {{a: [2]}}]}}}}
cases: [{{name: a, {X}}}]
"""
    assert only(factory, allow_import=True).model.model == FactoryModel(
        "mine.models:build", {"sizes": (1, {"a": (2,)})}
    )


def test_models_to_compare_with() -> None:
    expect = relu(
        f"{X}, expect: {{equals: {{layer: Linear, args: {{in_features: 3, out_features: 1}}, "
        f"weights: {{weight: {{values: [[1, 2, 3]]}}}}}}, differs_from: {{sequential: [{{layer: Tanh}}]}}}}"
    ).expect
    assert expect.equals is not None
    assert expect.equals.model == LayerModel("Linear", {"in_features": 3, "out_features": 1})
    assert expect.equals.weights["weight"].values == ((1, 2, 3),)
    assert expect.differs_from == WeightedModel(SequentialModel((LayerModel("Tanh"),)))


@pytest.mark.parametrize("key", ["equals", "differs_from"])
def test_a_factory_to_compare_with_is_user_code_too(key: str) -> None:
    spec = "harness: 1\nlayer: ReLU\ncases: [{{name: a, {}, expect: {{{}: {{{}}}}}}}]"
    assert only(spec.format(X, key, "factory: 'net:Net'"), allow_import=True).runs_user_code
    assert not only(spec.format(X, key, "layer: Tanh")).runs_user_code


def test_dynamic_axes_and_further_shapes() -> None:
    case = relu(
        "inputs: {x: {shape: [1, 3, 4]}}, dynamic: {x: {0: N, 2: W}}, "
        "also: [[5, 3, 6], {x: [0, 3, 1]}], bench: [[64, 3, 9]]"
    )
    assert case.dynamic == {"x": {0: "N", 2: "W"}}
    assert case.also == ({"x": (5, 3, 6)}, {"x": (0, 3, 1)})
    assert case.bench == ({"x": (64, 3, 9)},)


def test_inputs_keep_their_order() -> None:
    text = """
harness: 1
layer: Bilinear
defaults: {args: {in1_features: 2, in2_features: 3, out_features: 1}, inputs: {b: {shape: [4, 2]}, a: {shape: [4, 3]}}}
cases: [{name: c, inputs: {a: {fill: ones}}}]
"""
    assert [spec.label for spec in only(text).inputs] == ["b", "a"]


def test_a_weight_may_be_a_fill_alone() -> None:
    case = relu(f"{X}, weights: {{weight: {{fill: zeros}}, bias: {{shape: [3]}}}}")
    assert case.model.weights["weight"].takes_shape
    assert not case.model.weights["bias"].takes_shape


# Seeds


def test_seeds_come_from_the_case_and_the_tensor() -> None:
    text = """
harness: 1
layer: Bilinear
defaults: {args: {in1_features: 2, in2_features: 2, out_features: 1}, inputs: {a: {shape: [2]}, b: {shape: [2]}}}
cases: [{name: a}, {name: b}]
"""
    first, second = cases(text).values()
    seeds = [first.seed, second.seed, *(spec.seed for case in (first, second) for spec in case.inputs)]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    again, _ = cases(text).values()
    assert again == first


def test_seeds_do_not_depend_on_the_other_cases() -> None:
    alone = relu(X)
    assert alone.seed == 6426774140860982094
    assert alone.inputs[0].seed == 2176561201766565469


def test_an_explicit_seed_is_used() -> None:
    text = """
harness: 1
layer: ReLU
defaults: {seed: 7, inputs: {x: {shape: [2, 3]}}}
cases: [{name: a}, {name: b}, {name: c, inputs: {x: {seed: 5}}}]
"""
    first, second, third = cases(text).values()
    assert first.seed == second.seed == 7
    assert first.inputs[0].seed == second.inputs[0].seed
    assert third.inputs[0].seed == 5


# Matrices


VALUES = st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True)


@settings(max_examples=50)
@given(kernels=VALUES, seeds=VALUES, sizes=VALUES, data=st.data())
def test_a_matrix_is_every_combination_less_the_excluded(
    kernels: list[int], seeds: list[int], sizes: list[int], data: st.DataObject
) -> None:
    excluded = data.draw(
        st.lists(
            st.fixed_dictionaries({"args.num_parameters": st.sampled_from(kernels), "seed": st.sampled_from(seeds)})
            | st.fixed_dictionaries({"inputs.x.shape": st.sampled_from([[size] for size in sizes])}),
            max_size=2,
        )
    )
    names = ("args.num_parameters", "seed", "inputs.x.shape")
    matrix: dict[str, list[Any]] = dict(zip(names, (kernels, seeds, [[size] for size in sizes]), strict=True))
    points = [dict(zip(names, values, strict=True)) for values in product(*matrix.values())]
    kept = [point for point in points if not any(entry.items() <= _items(point, entry) for entry in excluded)]
    file = {
        "harness": 1,
        "layer": "PReLU",
        "cases": [{"name": "m", "inputs": {"x": {"shape": [1]}}, "matrix": matrix, "exclude": excluded}],
    }
    text = yaml.safe_dump(file, sort_keys=False)
    if not kept:
        with pytest.raises(Exception, match="exclude removes every combination of the matrix"):
            cases(text)
        return
    by_id = cases(text)
    assert len(by_id) == len(kept)
    for case, point in zip(by_id.values(), kept, strict=True):
        assert case.model.model == LayerModel("PReLU", {"num_parameters": point["args.num_parameters"]})
        assert case.seed == point["seed"]
        assert list(case.inputs[0].shape) == point["inputs.x.shape"]
        suffix = ",".join(f"{name}={flow_yaml(value)}" for name, value in point.items())
        assert case.id == f"f/m[{suffix}]"


def _items(point: dict[str, Any], entry: dict[str, Any]) -> Any:
    """The point's items for the keys of the entry; not as sets, since lists have no hash."""
    return (
        {name: point[name] for name in entry}.items()
        if all(point[name] == entry[name] for name in entry)
        else {}.items()
    )


def test_a_matrix_can_set_every_key_of_a_case() -> None:
    text = """
harness: 1
sequential: [{layer: ReLU}, {layer: ELU}]
defaults: {inputs: {x: {shape: [4, 2]}}}
cases:
  - name: m
    matrix:
      sequential.1.layer: [SELU, CELU]
      mode: [train]
      tolerance: [{ulp: 2}]
      dynamic.x.0: [N]
      expect.range: [[0, 1]]
      inputs.x.fill: [{full: 2}, ones]
"""
    by_id = cases(text)
    assert next(iter(by_id)) == (
        "f/m[sequential.1.layer=SELU,mode=train,tolerance={ulp:2},dynamic.x.0=N,"
        "expect.range=[0,1],inputs.x.fill={full:2}]"
    )
    case = list(by_id.values())[-1]
    assert case.model.model == SequentialModel((LayerModel("ReLU"), LayerModel("CELU")))
    assert (case.mode, case.tolerance, case.dynamic) == ("train", CaseTolerance(Ulp(2)), {"x": {0: "N"}})
    assert case.inputs[0].fill == Fill("ones")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def _typed(value: Any) -> Any:
    """``value`` in a form in which values of different types or bits differ, and NaN equals NaN."""
    if isinstance(value, list):
        return [_typed(each) for each in value]
    if isinstance(value, dict):
        return {"of": [(key, _typed(item)) for key, item in value.items()]}
    return (type(value).__name__, repr(value))


@given(ANYTHING, ANYTHING)
def test_no_two_values_look_alike_in_an_id(one: Any, other: Any) -> None:
    assert (flow_yaml(one) == flow_yaml(other)) == (_typed(one) == _typed(other))


@given(ANYTHING)
def test_an_id_stays_short_and_on_one_line(value: Any) -> None:
    assert len(id_label(value)) <= 64
    assert len(f"[{id_label(value)}]".splitlines()) == 1


def test_globs_with_escaped_brackets_match_ids() -> None:
    name = "f/m[args.kernel_size=[2,3]]"
    assert fnmatch.fnmatchcase(name, "f/m[[]args.kernel_size=[[]2,3]]")
