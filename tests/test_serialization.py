"""A worker process writes JSON with exactly the values of the report."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.result import OutputComparison, Result, result_from_json, to_json, to_json_line

PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=20
)


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A frozen dataclass with slots, like those of a result."""

    value: object


@given(NESTED)
def test_the_fast_writer_writes_what_json_dumps_writes(value: object) -> None:
    slow = json.loads(json.dumps(to_json(Wrapper(value))))
    assert json.loads(to_json_line(Wrapper(value))) == slow


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_strings(number: float) -> None:
    assert json.loads(to_json_line({"a": [number]})) == {"a": [str(number)]}


@pytest.mark.parametrize("text", ["NaN where Infinity was", "\udc80 from a name that is no UTF-8", "\0\n\u2028é"])
def test_text_is_unchanged_and_on_one_line(text: str) -> None:
    assert json.loads(to_json_line({"text": text})) == {"text": text}
    assert b"\n" not in to_json_line({"text": text})


def test_a_result_is_read_back_unchanged() -> None:
    output = OutputComparison(0, "y", (2, 3), "float32", "exact", max_ulp=2**64 - 1, least_rtol=math.inf, worst=(1, 2))
    result = Result(
        "a/b", "trace/torch-cpu", "failed", outputs=(output,), placement=MappingProxyType({"asked": "CPU", "stray": ()})
    )
    read_back = result_from_json(json.loads(to_json_line(result)))
    assert read_back.outputs == result.outputs
    assert read_back.placement == {"asked": "CPU", "stray": []}


def test_a_value_that_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(TypeError):
        to_json_line({"a": object()})
