"""Any spec gives cases or problems with locations, without a traceback, hang or unexpected case."""

from __future__ import annotations

import copy
import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.spec.language.expand import expand
from harness.spec.language.inputs.fills import array
from harness.spec.yaml import parse
from tests.test_spec_expand import CONTRACT, DEFAULTS
from tests.test_spec_schema import EVERYTHING

VALID = [parse(text, "f").plain() for text in (CONTRACT, DEFAULTS, EVERYTHING)]
WORDS = st.sampled_from(
    [
        "x",
        "y",
        "values",
        "shape",
        "fill",
        "full",
        "uniform",
        "args",
        "layer",
        "ReLU",
        "MaxPool2d",
        "kernel_size",
        "name",
        "matrix",
        "in",
        "out",
        "weights",
        "bias",
        "also",
        "args.kernel_size",
        "inputs.x.shape",
        "inputs.x",
        "inputs",
        "sequential.0.layer",
        "0",
        "equals",
        "by_output",
        "ulp",
        "exact",
        "<<",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=5)
    | st.sampled_from(["nan", "no", "1e3", ".nan", "a.b:c", "x + ", "sum(x)", "2" * 30])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers(0, 3), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a tree of lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner_path for key, item in inner for inner_path in paths(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid spec with a few values replaced, removed or added."""
    tree: Any = {"file": copy.deepcopy(draw(st.sampled_from(VALID)))}
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(paths(tree)[1:]))
        holder = tree
        for key in parents:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace" or len(parents) == 0:
            holder[last] = draw(ANYTHING)
        elif action == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(WORDS)] = draw(ANYTHING)
        else:
            holder.append(draw(ANYTHING))
    return tree["file"]


@settings(max_examples=300)
@given(mutated())
def test_a_mutated_spec_gives_cases_or_problems_with_locations(tree: Any) -> None:
    lines = ["f:1:1: nothing"]
    try:
        cases = expand(parse(yaml.safe_dump(tree, sort_keys=False), "f"), "f", allow_import=True)
    except SpecError as error:
        lines = str(error).splitlines()
    else:
        assert cases
        assert len({case.id for case in cases}) == len(cases)
        for spec in cases[0].inputs:
            assert array(spec).shape == spec.shape
    assert lines
    assert all(re.match(r"f:\d+:\d+: \S", line) for line in lines)
