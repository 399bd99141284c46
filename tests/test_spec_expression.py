from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.errors import RequestError, StageError
from harness.spec.expressions import MAX_LENGTH, MAX_NODES, compile_expression, indexed_size
from harness.spec.expressions.functions import MAX_ELEMENTS, kolmogorov_smirnov_p

X = np.array([[-1.0, 0.0, 2.0], [3.0, -4.0, 0.5]])
NAMES: dict[str, Any] = {
    "x": X,
    "y": X * 2,
    "kernel_size": (2, 3),
    "stride": None,
    "negative_slope": 0.01,
    "inplace": False,
    "mode": "mean",
    "n": 3,
    "huge": 2**62,
}


def value(text: str) -> Any:
    return compile_expression(text, NAMES).evaluate(NAMES)


VALUES: list[tuple[str, Any]] = [
    ("where(x > 0, x, negative_slope * x)", np.where(X > 0, X, 0.01 * X)),
    ("1 / (1 + exp(-x))", 1 / (1 + np.exp(-X))),
    ("0 <= x <= 2", (X >= 0) & (X <= 2)),
    ("x > 0 and y < 3 or not x < 1", ((X > 0) & (X * 2 < 3)) | ~(X < 1)),
    ("(x > 0) & ~(y > 3) | (x == 0)", ((X > 0) & ~(X * 2 > 3)) | (X == 0)),
    ("not inplace", True),
    ("~inplace", True),
    ("x[0]", X[0]),
    ("x[:, 1:]", X[:, 1:]),
    ("x[..., None, ::2]", X[..., None, ::2]),
    ("x[x < 0]", X[X < 0]),
    ("kernel_size[1] * x", 3 * X),
    ("sum(x, axis=1, keepdims=True)", X.sum(1, keepdims=True)),
    ("mean(x)", X.mean()),
    ("max(x, axis=(0, 1))", X.max()),
    ("cumsum(x, axis=1)", X.cumsum(1)),
    ("maximum(x, 0)", np.maximum(X, 0)),
    ("clip(x, -1, 1)", np.clip(X, -1, 1)),
    ("reshape(x, (3, 2)) @ x", X.reshape(3, 2) @ X),
    ("matmul(x, transpose(x))", X @ X.T),
    ("transpose(x, [1, 0])", X.T),
    ("x ** 2 % 3 // 1", X**2 % 3 // 1),
    ("abs(sign(x)) + floor(x) - ceil(x) + round(x)", abs(np.sign(X)) + np.floor(X) - np.ceil(X) + np.round(X)),
    ("isnan(nan * x) and isinf(inf + 0 * x) and isfinite(pi * e * x)", np.full(X.shape, True)),
    ("expm1(log1p(x * x))", np.expm1(np.log1p(X * X))),
    ("erf(x)", np.vectorize(math.erf)(X)),
    ("n ** 2", 9),
    ("2 ** -1", 0.5),
    ("9 ** 9 ** 9", math.inf),
    ("log(x - 1000)", np.full(X.shape, math.nan)),
    ("zeros_like(x) + ones_like(x)", np.ones(X.shape)),
    ("where(x > 0, 1, 0) * prod(kernel_size)", np.where(X > 0, 1, 0) * 6),
]


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=[text for text, _ in VALUES])
def test_expressions_mean_what_numpy_means(text: str, expected: Any) -> None:
    actual = value(text)
    np.testing.assert_allclose(np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64), rtol=1e-15)
    assert np.shape(actual) == np.shape(expected)


def test_arithmetic_stays_in_the_dtype_of_its_operands() -> None:
    single = X.astype(np.float32)
    assert compile_expression("2 * x + 0.5").evaluate({"x": single}).dtype == np.float32


def test_operands_are_not_changed() -> None:
    before = X.copy()
    for text, _ in VALUES:
        value(text)
    assert np.array_equal(X, before)


REFUSED = [
    ("x.shape", "Attribute is not allowed"),
    ("x.__class__.__base__", "Attribute is not allowed"),
    ("__import__('os')", "unknown function __import__"),
    ("eval(x)", "unknown function eval"),
    ("open(x)", "unknown function open"),
    ("(lambda: 1)()", "only functions by name can be called"),
    ("x[0](1)", "only functions by name can be called"),
    ("lambda: 1", "Lambda is not allowed"),
    ("[i for i in x]", "ListComp is not allowed"),
    ("{1: 2}", "Dict is not allowed"),
    ("{1}", "Set is not allowed"),
    ("x if x else y", "IfExp is not allowed; use arithmetic"),
    ("f'{x}'", "JoinedStr is not allowed"),
    ("'a' * 1000000000", "str is not allowed; write numbers"),
    ("b'a'", "bytes is not allowed"),
    ("1j * x", "complex is not allowed"),
    ("x is y", "Is is not allowed"),
    ("x in y", "In is not allowed"),
    ("x << 100", "LShift is not allowed"),
    ("x ^ 1", "BitXor is not allowed"),
    ("(z := 3)", "NamedExpr is not allowed"),
    ("exp(*x)", "Starred is not allowed"),
    ("sum(x, **y)", "sum takes no **="),
    ("exp(x, y)", "exp has 2 arguments; exp takes 1"),
    ("exp(x, out=y)", "exp takes no out=; its keywords: none"),
    ("sum(x, dtype=n)", "sum takes no dtype="),
    ("max(0, x)", "max has 2 arguments; use maximum for two"),
    ("where(x)", "where has 1 argument; where takes 3"),
    ("maxx(x)", "unknown function maxx; did you mean max?"),
    ("xs + 1", "unknown name xs; did you mean x?"),
    ("negativ_slope", "did you mean negative_slope?"),
    ("99999999999999999999", "a whole number beyond 64 bits; write a float"),
    ("1 +", "not an expression: invalid syntax"),
    ("", "not an expression"),
    ("x; y", "not an expression"),
    ("import os", "not an expression"),
    ("x = 1", "not an expression"),
    ("(" * 300 + ")" * 300, "not an expression"),
    ("-" * 1500 + "1", "too deeply nested"),
    ("x\0", "not an expression"),
    ("x" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH}"),
    ("+".join(["x"] * (MAX_NODES + 1)), "too deeply nested"),
    (f"[{','.join(['1'] * (MAX_NODES + 1))}]", f"too long; at most {MAX_NODES} operations"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_text_outside_the_language_is_refused_before_anything_runs(text: str, line: str) -> None:
    with pytest.raises(RequestError) as caught:
        compile_expression(text, NAMES)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


IMPOSSIBLE = [
    ("x[9]", "index 9 is out of bounds"),
    ("x + ones_like(reshape(x, (6,)))", "mismatch"),
    ("kernel_size * 1000000000", "tuple is not a number"),
    ("mode + mode", "str is not a number"),
    ("stride + 1", "NoneType is not a number"),
    ("1 / 0", "division by zero"),
    ("10.0 ** 1000", "out of range"),
    ("reshape(x, (7,))", "cannot reshape"),
    ("uniform(x, 0, 1)", "needs at least 100 values"),
    ("[[1], [1, 2]]", "inhomogeneous"),
]


@pytest.mark.parametrize(("text", "line"), IMPOSSIBLE)
def test_values_that_do_not_fit_give_one_line(text: str, line: str) -> None:
    with pytest.raises(StageError) as caught:
        value(text)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["x[:, None] * x", "x[:, None] < x", "where(x[:, None] > 0, x, 0)", "x[:, None] @ x[None]"]
)
def test_no_result_grows_beyond_its_bound(text: str) -> None:
    long = np.zeros(2**14)
    assert long.size**2 > MAX_ELEMENTS
    with pytest.raises(StageError, match=f"more than {MAX_ELEMENTS} elements"):
        compile_expression(text).evaluate({"x": long})


LARGE: dict[str, Any] = {
    "x": np.zeros((2**10, 2**10)),
    "long": np.zeros(2**14),
    "index": np.zeros((2**10, 2**10), np.int64),
    "mask": np.ones(2**14, bool),
    "stack": np.zeros((2**14, 1, 1)),
    "empty": np.zeros((0, 2**20, 2**20)),
    "kernel_size": (2, 3),
    "huge": 2**62,
}
ESCAPES = [
    ("[0] * 10**6", "list is not a number"),
    ("x[[0] * 10**6]", "list is not a number"),
    ("kernel_size * 10**9", "tuple is not a number"),
    ("x[index]", "elements"),
    ("x[:, index]", "elements"),
    ("x[index][:1]", "elements"),
    ("x[..., index]", "elements"),
    ("x[index, None]", "elements"),
    ("x[index[0]][:, index]", "elements"),
    ("x[index[0], None, index[:, :1], None, index]", "too many indices"),
    ("x[index, index[:3]]", "broadcast"),
    ("long[mask][:, None] * long", "elements"),
    ("long[index][index[0]][:, index]", "elements"),
    ("long[:, None][mask, index[0, :1]][:, None] + long", "elements"),
    ("x[None][[True, False]]", "boolean index did not match"),
    ("x[None][[True]][0][index]", "elements"),
    ("x[where(x > 0, 0, 1)]", "elements"),
    (f"long[[{', '.join(['index'] * 70)}]]", "elements"),
    (f"sum([{', '.join(['x + 1'] * 70)}])", "elements"),
    (f"[{', '.join(['x'] * 65)}]", "elements"),
    (f"exp(({', '.join(['x'] * 65)}))", "elements"),
    ("long[:, None] @ long[None]", "elements"),
    ("matmul(stack, stack[:, None])", "elements"),
    ("long[:, None] & long", "elements"),
    ("minimum(long, long[:, None])", "elements"),
    ("clip(long, 0, long[:, None])", "elements"),
    ("long < 1 and long[:, None] < 1", "elements"),
    ("0 < long < long[:, None]", "elements"),
    ("sum(empty, axis=0)", "elements"),
    ("prod(empty, axis=(0,), keepdims=True)", "elements"),
    ("mean(empty, axis=-3)", "elements"),
    ("uniform(long, long[:, None], 1)", "needs one number as the lower bound"),
    ("[huge ** 64]", "whole numbers beyond 64 bits"),
    ("huge ** 64", "whole numbers beyond 64 bits"),
    ("where(x > 0, [huge ** 64][0], 0)", "where("),  # NumPy's message differs between releases
    ("sum([huge ** 64, 1]) ** 64", "too large"),
    ("x[huge ** 64]", "only integers"),
    ("x[:, :, :, :]", "too many indices"),
    ("x[0.5]", "only integers"),
    ("x[::0]", "slice step cannot be zero"),
    ("reshape(x, (huge, huge))", "cannot"),
    ("sum(x, axis=huge ** 2)", "too large"),
]


@pytest.mark.parametrize(("text", "line"), ESCAPES, ids=[text[:50] for text, _ in ESCAPES])
def test_the_bounds_cannot_be_bypassed(text: str, line: str) -> None:
    with pytest.raises(StageError) as caught:
        compile_expression(text).evaluate(LARGE)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


INDICES = st.one_of(
    st.integers(-3, 3),
    st.none(),
    st.just(...),
    st.slices(4),
    st.booleans(),
    st.lists(st.integers(-2, 2), max_size=3),
    st.lists(st.booleans(), min_size=2, max_size=4),
    st.sampled_from([np.array([[0, 1], [1, 0]]), np.array(1), np.ones((3, 4), bool), np.array([True, False, True])]),
)


@settings(max_examples=1000)
@given(st.lists(INDICES, max_size=4))
def test_the_size_at_an_index_is_computed_in_advance(parts: list[Any]) -> None:
    array, index = np.zeros((3, 4, 2)), tuple(parts)
    try:
        selected = array[index]
    except IndexError:
        return
    assert indexed_size(array.shape, index) == selected.size


def test_powers_of_whole_numbers_do_not_explode() -> None:
    assert value("huge ** 64 ** 64 * huge") == math.inf
    with pytest.raises(StageError, match="too large"):
        value("(huge ** 64) ** 64")


def test_a_name_without_a_list_of_names_is_looked_up_when_evaluated() -> None:
    expression = compile_expression("mine * x")
    assert expression.evaluate({"mine": 2, "x": 3}) == 6
    with pytest.raises(StageError, match="unknown name mine"):
        expression.evaluate({"x": 3})


def test_a_name_takes_precedence_over_a_constant() -> None:
    assert compile_expression("e").evaluate({"e": 5}) == 5


def test_uniform_distinguishes_a_uniform_sample_from_others() -> None:
    drawn = np.random.default_rng(1).uniform(0.125, 0.333, 2000)
    names = {"x": drawn, "lower": 0.125, "upper": 0.333}
    assert compile_expression("uniform(x, lower, upper)").evaluate(names)
    for wrong in (
        "uniform(x, 0, upper)",
        "uniform(x * 0 + 0.2, lower, upper)",
        "uniform(maximum(x, 0.16), lower, upper)",
    ):
        assert not compile_expression(wrong).evaluate(names)


@pytest.mark.parametrize("wrong", [[math.nan] * 100, [math.inf] * 100, [0.5] * 100])
def test_uniform_is_false_for_values_that_are_not_a_sample(wrong: list[float]) -> None:
    assert not compile_expression("uniform(x, 0, 1)").evaluate({"x": np.array(wrong)})
    assert not compile_expression("uniform(x, 0.5, 0.5)").evaluate({"x": np.array(wrong)})


@pytest.mark.parametrize("count", [100, 317, 5000, 2_000_000])
def test_the_probability_of_a_distance_agrees_with_an_independent_implementation(count: int) -> None:
    for probability in (1e-2, 1e-4, 1e-6, 1e-9):
        distance = float(stats.kstwo.isf(probability, count))
        assert kolmogorov_smirnov_p(distance, count) == pytest.approx(stats.kstwo.sf(distance, count), rel=1e-6)
    assert kolmogorov_smirnov_p(0.5 / count, count) == 1
    assert kolmogorov_smirnov_p(1.0, count) == 0


TEXT = st.text("xyn01+-*/%@&|~<>=!()[]{}.,:'\"_ eabms", max_size=30)


@settings(max_examples=500)
@given(TEXT)
def test_any_text_gives_an_array_or_one_line(text: str) -> None:
    message = "evaluated"
    try:
        result = compile_expression(text, NAMES).evaluate(NAMES)
        assert isinstance(result, np.ndarray)
    except (RequestError, StageError) as error:
        message = str(error)
    assert message.strip()
    assert len(message.splitlines()) == 1


NUMBERS = st.floats(-1e3, 1e3).map(repr) | st.integers(0, 99).map(str) | st.sampled_from(["x", "y", "n"])
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})")
        | inner.map(lambda one: f"(-{one})")
        | inner.map(lambda one: f"abs({one})")
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(EXPRESSIONS)
def test_arithmetic_agrees_with_numpy(text: str) -> None:
    expected = eval(text, {"__builtins__": {}}, {"abs": np.abs, **NAMES})
    np.testing.assert_array_equal(value(text), expected)
