"""What a worker writes is, number by number, what a report would hold of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.result import OutputComparison, Result, result_from_json, to_json
from harness.serialization import one_line

PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text()
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner), max_leaves=20
)


@dataclass(frozen=True, slots=True)
class Held:
    """As the dataclasses of a result are."""

    value: object


@given(NESTED)
def test_it_reads_back_as_the_slow_way_would_have_written_it(value: object) -> None:
    slow = json.loads(json.dumps(to_json(Held(value))))
    assert json.loads(one_line(Held(value))) == slow


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_words(number: float) -> None:
    assert json.loads(one_line({"a": [number]})) == {"a": [str(number)]}


@pytest.mark.parametrize("text", ["NaN where Infinity was", "\udc80 from a name that is no UTF-8", "\0\n\u2028é"])
def test_text_stays_as_it_is_on_one_line(text: str) -> None:
    assert json.loads(one_line({"said": text})) == {"said": text}
    assert b"\n" not in one_line({"said": text})


def test_a_result_comes_back_whole() -> None:
    output = OutputComparison(0, "y", (2, 3), "float32", "exact", max_ulp=2**64 - 1, least_rtol=math.inf, worst=(1, 2))
    result = Result(
        "a/b", "trace/torch-cpu", "failed", outputs=(output,), placement=MappingProxyType({"asked": "CPU", "stray": ()})
    )
    back = result_from_json(json.loads(one_line(result)))
    assert back.outputs == result.outputs
    assert back.placement == {"asked": "CPU", "stray": []}


def test_what_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(TypeError):
        one_line({"a": object()})
