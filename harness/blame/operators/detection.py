"""NonMaxSuppression, in time that grows with the boxes that are kept.

``onnx.reference`` compares each pair of boxes in Python: the candidates of an SSD take it minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.blame.operators import Array, Operator, wide


class NonMaxSuppression(Operator):
    """NonMaxSuppression as defined in https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html.

    Of two boxes with equal scores the one with the lower index comes first, as in ONNX Runtime.
    """

    def compute(
        self,
        boxes: Array,
        scores: Array,
        max_output_boxes_per_class: Array | None = None,
        iou_threshold: Array | None = None,
        score_threshold: Array | None = None,
        center_point_box: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """Rows of batch, class and box that are kept, those of a class by falling score."""
        most = 0 if max_output_boxes_per_class is None else int(np.ravel(max_output_boxes_per_class)[0])
        overlap = 0.0 if iou_threshold is None else float(np.ravel(iou_threshold)[0])
        least = None if score_threshold is None else float(np.ravel(score_threshold)[0])
        rows = [
            (batch, of_class, box)
            for batch, corners in enumerate(_corners(wide(boxes), center=bool(center_point_box)))
            for of_class, values in enumerate(wide(scores)[batch])
            for box in _kept(corners, values, most, overlap, least)
        ]
        return (np.array(rows, np.int64).reshape(-1, 3),)


def _corners(boxes: Array, *, center: bool) -> Array:
    """The lower corner and then the upper one of each box, whichever of its corners are given."""
    if center:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return np.concatenate([middle - half, middle + half], axis=-1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def _kept(corners: Array, scores: Array, most: int, overlap: float, least: float | None) -> list[int]:
    left = np.argsort(-scores, kind="stable")
    if least is not None:
        left = left[scores[left] > least]
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    kept: list[int] = []
    while left.size and len(kept) < most:
        box, left = left[0], left[1:]
        kept.append(int(box))
        sides = np.minimum(corners[box, 2:], corners[left, 2:]) - np.maximum(corners[box, :2], corners[left, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        # A share of an area of zero counts as none.
        joined = areas[box] + areas[left] - shared
        left = left[~((shared > 0) & (shared > overlap * joined))]
    return kept


DETECTION_OPERATORS: tuple[type[Operator], ...] = (NonMaxSuppression,)
