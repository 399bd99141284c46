"""Whatever stands in a spec, it is cases or problems with places: no traceback, no hang, no case nobody asked for."""

from __future__ import annotations

import copy
import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.spec.language.expand import expand
from harness.spec.language.fills import array
from harness.spec.yaml.reader import parse
from tests.test_spec_expand import CONTRACT, DEFAULTS
from tests.test_spec_schema import EVERYTHING

WHOLE = [parse(text, "f").plain() for text in (CONTRACT, DEFAULTS, EVERYTHING)]
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


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a tree of lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


@st.composite
def broken(draw: st.DrawFn) -> Any:
    """A valid spec, in which a few things are replaced, removed or added."""
    tree: Any = {"file": copy.deepcopy(draw(st.sampled_from(WHOLE)))}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(tree)[1:]))
        holder = tree
        for key in way:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace" or len(way) == 0:
            holder[last] = draw(ANYTHING)
        elif action == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(WORDS)] = draw(ANYTHING)
        else:
            holder.append(draw(ANYTHING))
    return tree["file"]


@settings(max_examples=300)
@given(broken())
def test_a_broken_spec_is_cases_or_problems_with_places(tree: Any) -> None:
    said = ["f:1:1: nothing"]
    try:
        cases = expand(parse(yaml.safe_dump(tree, sort_keys=False), "f"), "f", allow_import=True)
    except SpecError as error:
        said = str(error).splitlines()
    else:
        assert cases
        assert len({case.id for case in cases}) == len(cases)
        for spec in cases[0].inputs:
            assert array(spec).shape == spec.shape
    assert said
    assert all(re.match(r"f:\d+:\d+: \S", line) for line in said)
