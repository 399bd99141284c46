"""Sequences, old forms of padding, and the operators that scikit-learn's models are exported to."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.operator_sweep.models.case import Array, Case, Cases, case, normal

FEATURES = normal(1, 5, 3)
ML = "ai.onnx.ml"


def classical_cases() -> Cases:
    """Every family in this file."""
    yield from _sequences()
    yield from _pads()
    yield from _linear()
    yield from _trees()


def _sequences() -> Cases:
    parts: list[Array] = [normal(1, 2, 3), normal(2, 2, 3), normal(3, 2, 3)]
    yield case("sequence-construct", "SequenceConstruct", parts, 11)
    yield case("sequence-at", "SequenceAt", [parts, np.array(-1)], 11)
    yield case("sequence-length", "SequenceLength", [parts], 11)
    yield case("sequence-erase", "SequenceErase", [parts, np.array(1)], 11)
    yield case("sequence-insert", "SequenceInsert", [parts, normal(4, 2, 3), np.array(0)], 11)
    yield case("sequence-concat", "ConcatFromSequence", [parts], 11, axis=1)
    yield case("sequence-stack", "ConcatFromSequence", [parts], 11, axis=0, new_axis=1)
    yield case("sequence-split", "SplitToSequence", [normal(1, 5, 3), np.array([2, 3])], 11, constants=[1])
    yield case("sequence-split-each", "SplitToSequence", [normal(1, 5, 3)], 11, axis=1, keepdims=0)


def _pads() -> Cases:
    image = normal(1, 1, 2, 4, 5)
    for mode in ("constant", "edge", "reflect"):
        yield case(f"pad-{mode}", "Pad", [image], 10, mode=mode, pads=[0, 0, 1, 2, 0, 0, 3, 1], value=1.5)
    yield case("pad-negative", "Pad", [image], 10, pads=[0, 0, 1, -1, 0, 0, -2, 0])


def _ml(name: str, operator: str, inputs: list[Any], version: int = 1, outputs: int = 1, **attributes: Any) -> Case:
    return case(name, operator, inputs, version, domain=ML, outputs=outputs, **attributes)


def _linear() -> Cases:
    coefficients = normal(2, 6).astype(float).tolist()
    yield _ml("scaler", "Scaler", [FEATURES], offset=[0.5, -1.0, 2.0], scale=[2.0, 0.3, 1.0])
    for norm in ("MAX", "L1", "L2"):
        yield _ml(f"normalizer-{norm}", "Normalizer", [np.abs(FEATURES)], norm=norm)
    yield _ml("imputer", "Imputer", [FEATURES], imputed_value_floats=[9.0], replaced_value_float=float(FEATURES[0, 0]))
    regression: dict[str, Any] = {"coefficients": coefficients, "intercepts": [0.5, -0.2], "targets": 2}
    yield _ml("linear-regressor", "LinearRegressor", [FEATURES], **regression)
    for transform in ("NONE", "SOFTMAX", "LOGISTIC"):
        yield _ml(
            f"linear-classifier-{transform}",
            "LinearClassifier",
            [FEATURES],
            outputs=2,
            classlabels_ints=[0, 1, 2],
            coefficients=normal(3, 9).astype(float).tolist(),
            intercepts=[0.1, -0.2, 0.3],
            multi_class=1,
            post_transform=transform,
        )
    yield _ml("features", "FeatureVectorizer", [FEATURES, FEATURES[:, :2].copy()], inputdimensions=[3, 2])
    categories = np.array([[1], [3], [7]])
    yield _ml("onehotencoder", "OneHotEncoder", [categories], cats_int64s=[1, 2, 3], zeros=1)
    yield _ml("zipmap", "ZipMap", [np.abs(FEATURES)], classlabels_int64s=[4, 5, 6])


def _trees() -> Cases:
    nodes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2],
        "nodes_featureids": [0, 0, 0, 2, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        "nodes_values": [0.25, 0.0, 0.0, -0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [0] * 6,
        "nodes_hitrates": [1.0] * 6,
    }
    leaves = {"treeids": [0, 0, 1, 1], "nodeids": [1, 2, 1, 2], "ids": [0] * 4, "weights": [1.5, -0.5, 0.25, 2.0]}
    for version in (1, 3):
        for aggregate in ("SUM", "AVERAGE"):
            target = {f"target_{key}": value for key, value in leaves.items()}
            regression: dict[str, Any] = {"n_targets": 1, "aggregate_function": aggregate, **target}
            name = f"tree-regressor-{version}-{aggregate}"
            yield _ml(name, "TreeEnsembleRegressor", [FEATURES], version, **nodes, **regression)
        weights = {f"class_{key}": value for key, value in {**leaves, "ids": [0, 1, 2, 0]}.items()}
        more: dict[str, Any] = {"classlabels_int64s": [0, 1, 2], "post_transform": "NONE", **weights}
        name = f"tree-classifier-{version}"
        yield _ml(name, "TreeEnsembleClassifier", [FEATURES], version, outputs=2, **nodes, **more)
