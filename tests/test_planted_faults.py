"""Small versions of both verdict benchmarks: each planted fault is caught, no correct configuration is blamed.

Both benchmarks also detect a broken harness: a comparison that accepts everything, a tolerance that is too tight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.correct.bench import Bench as CorrectBench
from benchmarks.no_false_alarm import table as correct_table
from benchmarks.planted import exact
from benchmarks.planted.bench import CAUGHT, MISSED, REFUSED, UNCHANGED, WITHIN, WRONG, Bench, Outcome
from benchmarks.planted.report import markdown
from benchmarks.silence import silent
from harness.compare.verdict import Comparison, compare
from harness.layers.sigmoid import Sigmoid
from harness.layers.tanh import Tanh
from harness.model.answer import Reference
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.spec.targets import Target

SPECS = Path(__file__).resolve().parent.parent / "specs"
TARGETS = (Target("onnx-torchscript", "ort-cpu", 17), Target("trace", "torch-cpu"))
CASES = ("relu/known-values", "linear/notes-experiment", "sigmoid/known-values", "maxpool2d/return-indices")


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [shipped(name) for name in CASES]


def shipped(name: str) -> Case:
    """The first shipped case with an id that begins with ``name``."""
    spec = load_specs([str(SPECS / f"{name.partition('/')[0]}.yaml")], allow_import=False)
    return next(case for case in spec.cases if case.id.startswith(name))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with silent():
        yield


def planted(cases: list[Case], folder: Path, each: int) -> list[Outcome]:
    bench = Bench(folder, each)
    for case in cases:
        bench.plant(case, TARGETS)
    assert bench.artifacts == len(cases) * len(TARGETS)
    return bench.outcomes


def test_every_fault_that_matters_is_caught(cases: list[Case], tmp_path: Path) -> None:
    outcomes = planted(cases, tmp_path, each=16)
    assert [str(outcome) for outcome in outcomes if outcome.what in WRONG] == []
    counted = {what: sum(outcome.what == what for outcome in outcomes) for what in (CAUGHT, REFUSED, UNCHANGED, WITHIN)}
    assert counted[CAUGHT] > 100
    assert all(counted.values())
    places = {outcome.kind.partition(":")[0] for outcome in outcomes if outcome.what == CAUGHT}
    assert places == {"answer", "file", "program"}
    report = markdown(outcomes, artifacts=8, cases=len(cases), targets="two", seconds=1.0)
    assert f"**{counted[CAUGHT] + counted[REFUSED]} of {counted[CAUGHT] + counted[REFUSED]} faults" in report


def test_a_comparison_that_detects_nothing_is_noticed(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept_everything(actual: Any, expected: Any, tolerance: Tolerance, **known: Any) -> Comparison:
        return compare(expected, expected, tolerance, **known)

    monkeypatch.setattr(import_module("harness.compare.verdict"), "compare", accept_everything)
    outcomes = planted(cases[:1], tmp_path, each=8)
    missed = [outcome for outcome in outcomes if outcome.what == MISSED]
    assert missed
    assert all(outcome.really for outcome in missed)


# The exact comparison


def reference(expected: Any, magnitudes: Any = None, undefined: Any = None) -> Reference:
    known: Any = SimpleNamespace(eager={"y": expected}, magnitudes=(magnitudes,), undefined=(undefined,))
    return known  # type: ignore[no-any-return]


RULES = st.one_of(
    st.just(Exact()),
    st.builds(Ulp, st.integers(0, 40)),
    st.builds(Close, st.sampled_from([0.0, 1e-6, 1e-3, 0.5]), st.sampled_from([0.0, 1e-40, 1e-5, 1.0])),
    st.builds(Scaled, st.sampled_from([0.0, 0.5, 3.0, 1e4])),
)
BITS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)


@given(BITS, st.integers(-50, 50), RULES, st.sampled_from(["float32", "float16", "bfloat16"]))
def test_the_judge_and_the_product_agree_on_every_bit_pattern(
    bits: list[int], off: int, rule: Rule, dtype: str
) -> None:
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    width = np.dtype(f"u{kind.itemsize}")
    expected_bits = np.array(bits, np.uint64).astype(width)
    actual = (expected_bits.astype(np.int64) + off).astype(width).view(kind)
    expected = expected_bits.view(kind)
    terms = np.abs(expected.astype(np.float64)) * 2
    comparison = compare({"y": actual}, {"y": expected}, Tolerance(rule), magnitudes=[terms])
    assert (
        exact.first_difference({"y": actual}, reference(expected, terms), Tolerance(rule)) is None
    ) == comparison.passed


def judged(actual: Any, expected: Any, rule: Rule, **known: Any) -> str | None:
    return exact.first_difference({"y": np.asarray(actual)}, reference(np.asarray(expected), **known), Tolerance(rule))


def test_the_judge_counts_to_the_last_bit() -> None:
    one = np.float32(1)
    above = np.nextafter(one, np.float32(2))
    assert judged([above], [one], Ulp(1)) is None
    assert judged([np.nextafter(above, np.float32(2))], [one], Ulp(1))
    assert judged([above], [one], Close(2.0**-23, 0.0)) is None
    assert judged([above], [one], Close(math.nextafter(2.0**-23, 0), 0.0))
    terms = np.array([8.0])
    assert judged([np.float32(2.0**-20)], [np.float32(0)], Scaled(1), magnitudes=terms) is None
    assert judged([np.float32(2.0**-19)], [np.float32(0)], Scaled(1), magnitudes=terms)


def test_the_judge_knows_what_is_not_a_number() -> None:
    loose = Close(1.0, 1e9)
    assert judged([np.float32(math.nan)], [np.float32(math.nan)], Exact()) is None
    assert judged([np.float32(math.nan)], [np.float32(0)], loose)
    assert judged([np.float32(math.inf)], [np.float32(3e38)], loose)
    assert judged([np.float32(-math.inf)], [np.float32(math.inf)], loose)
    assert judged([np.float32(-0.0)], [np.float32(0.0)], Exact()) is None


def test_the_judge_looks_at_form_and_leaves_out_what_is_undefined() -> None:
    assert judged([1], [[1]], Exact())
    assert judged(np.array([1.0], np.float64), np.array([1.0], np.float32), Exact())
    assert judged([2], [1], Ulp(9)), "integers have no rounding"
    assert judged([5, 1], [1, 1], Exact(), undefined=np.array([True, False])) is None
    assert exact.first_difference({}, reference(np.ones(1)), Tolerance(Exact()))


# No false alarms


def checked(folder: Path, configurations: int) -> CorrectBench:
    bench = CorrectBench(folder)
    for _ in range(configurations):
        bench.check(bench.draw())
    return bench


def test_correct_configurations_raise_no_alarm(tmp_path: Path) -> None:
    bench = checked(tmp_path, 60)
    assert bench.alarms == []
    assert len({layer for layer, _ in bench.tallies}) == 10
    kinds = {
        f"{exporter}{fixes}" for exporter in ("onnx-torchscript", "onnx-dynamo", "trace") for fixes in ("", "+fixes")
    }
    assert {exporter for _, exporter in bench.tallies} == kinds
    assert "AvgPool2d" in correct_table(bench.tallies)


def test_a_tolerance_that_is_too_tight_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in (Sigmoid, Tanh):
        monkeypatch.setattr(layer, "tolerance", lambda *_: Tolerance(Exact()))
    assert checked(tmp_path, 40).alarms
