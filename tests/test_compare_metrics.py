"""Metrics are discovered by their files; distances show which answer is closer to the float64 reference."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.compare import metrics
from harness.compare.output import STANDARD_METRICS
from harness.compare.verdict import compare, distances
from harness.registry import plugins
from harness.result import OutputComparison, Report, Result, result_from_json, to_json
from harness.spec.language.tolerances import Exact, Tolerance

A_METRIC = """
class MeanAbs:
    name = "mean_abs"

    def measure(self, compared):
        return compared.pair.distance.mean() if compared.pair.distance.size else None


PROVIDES = (MeanAbs(),)
"""


@pytest.fixture
def _added_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mean_abs.py").write_text(A_METRIC)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    plugins.cache_clear()
    yield
    sys.modules.pop("harness.compare.metrics.mean_abs", None)
    plugins.cache_clear()


def one_output(*actual: float) -> OutputComparison:
    expected = {"o": np.zeros(len(actual), np.float32)}
    return compare({"o": np.array(actual, np.float32)}, expected, Tolerance(Exact())).outputs[0]


def test_the_standard_metrics_are_registered_from_their_files() -> None:
    assert plugins("compare.metrics").keys() == STANDARD_METRICS | {"psnr", "kl", "top5"}


@pytest.mark.usefixtures("_added_metric")
def test_a_metric_in_a_new_file_shows_up_in_the_report() -> None:
    output = one_output(1.0, 2.0)
    assert output.extra["mean_abs"] == 1.5
    assert output.max_abs == 2.0
    written = to_json(Report({}, (Result("c", "t", "failed", outputs=(output, one_output(math.inf))),)))
    assert written["results"][0]["outputs"][0]["extra"]["mean_abs"] == 1.5
    assert written["results"][0]["outputs"][1]["extra"] == {}
    assert result_from_json(written["results"][0]).outputs[0] == output


def test_the_metrics_of_a_known_pair() -> None:
    expected = np.array([[1.0, -2.0], [0.0, 4.0]], np.float32)
    actual = np.array([[1.0, -2.5], [0.0, 4.5]], np.float32)
    output = compare({"o": actual}, {"o": expected}, Tolerance(Exact())).outputs[0]
    assert (output.max_abs, output.max_rel, output.max_ulp) == (0.5, 0.25, 2**21)
    assert (output.mismatched, output.of, output.worst) == (2, 4, (0, 1))
    assert (output.actual_at_worst, output.expected_at_worst) == (-2.5, -2.0)
    assert (output.least_rtol, output.least_atol) == (0.25, 0.5)


def test_a_number_against_zero_has_no_relative_tolerance() -> None:
    output = one_output(1e-3)
    assert output.max_rel == output.least_rtol == math.inf
    assert output.least_atol == float(np.float32(1e-3))


def test_the_closer_answer_is_named_for_each_output() -> None:
    float64 = {"a": np.array([1.0, 2.0]), "b": np.array([np.nan, np.inf, 3.0]), "c": np.array([1.0])}
    eager = {"a": np.array([1.0, 2.5]), "b": np.array([np.nan, np.inf, 3.0]), "c": np.array([2.0])}
    target = {"a": np.array([1.25, 2.0]), "b": np.array([0.0, np.inf, 3.0]), "c": np.array([0.0])}
    first, second, third = distances(eager, target, float64)
    assert (first.eager_max_abs, first.target_max_abs, first.nearer) == (0.5, 0.25, "target")
    assert (second.eager_max_abs, second.target_max_abs, second.nearer) == (0.0, math.inf, "eager")
    assert (third.index, third.nearer) == (2, "neither")


def test_an_answer_that_cannot_be_compared_is_infinitely_far() -> None:
    float64 = {"a": np.zeros((2, 2)), "b": np.zeros(1)}
    eager = {"a": np.zeros((2, 2)), "b": np.array([-np.inf])}
    first, second = distances(eager, {"a": np.zeros(4)}, float64)
    assert (first.target_max_abs, first.nearer) == (math.inf, "eager")
    assert (second.eager_max_abs, second.target_max_abs, second.nearer) == (math.inf, math.inf, "neither")


def test_undefined_values_do_not_count_for_the_distance() -> None:
    (distance,) = distances(
        {"a": np.array([5.0, 1.0])},
        {"a": np.array([0.0, 1.5])},
        {"a": np.array([0.0, 1.0])},
        undefined=[np.array([True, False])],
    )
    assert (distance.eager_max_abs, distance.nearer) == (0.0, "eager")
