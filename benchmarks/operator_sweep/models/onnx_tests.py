"""ONNX's own tests of single operators."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from onnx import TensorProto
from onnx.backend.test.case.node import collect_testcases

from benchmarks.operator_sweep.models.case import Case
from harness.data_files.onnx_files import to_array, with_ml_dtypes


def cases_of_onnx() -> list[Case]:
    """Each test whose model has one node, with the inputs of its first data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests overflow and divide by zero on purpose
        tests = collect_testcases(None)
    cases = []
    for test in tests:
        if test.model is None or not test.data_sets:
            continue
        graph = test.model.graph
        if len(graph.node) == 1:
            values = [_value(value) for value in test.data_sets[0][0]]
            inputs = dict(zip((entry.name for entry in graph.input), values, strict=False))
            cases.append(Case(test.name, test.model, inputs))
    return cases


def _value(value: Any) -> Any:
    if isinstance(value, TensorProto):
        return to_array(value)
    if isinstance(value, list):
        return [_value(each) for each in value]
    return with_ml_dtypes(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value
