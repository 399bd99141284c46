"""The operators that harness implements give hand-computed values; ``onnx.reference`` is wrong or lacks them."""

from __future__ import annotations

from math import log, tanh
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.operator_models import OneOperator, values

CUBIC_AT_1_25 = 0.10546875
"""Minus the weight of a pixel 1.25 away in cubic interpolation: 0.75 * (1.25**3 - 5 * 1.25**2 + 8 * 1.25 - 4)."""


@pytest.fixture
def one(tmp_path: Path) -> OneOperator:
    return OneOperator(tmp_path)


@pytest.mark.parametrize(("opset", "expected"), [(1, 0.25), (11, 0.25), (12, 0.25), (13, 0.5)])
def test_softmax_flattens_below_opset_13(one: OneOperator, opset: int, expected: float) -> None:
    x = np.zeros((1, 2, 2), np.float32)
    assert (one.in_float64("Softmax", [x], opset, axis=1)[0] == expected).all()
    assert np.allclose(one.in_float64("LogSoftmax", [x], opset, axis=1)[0], log(expected), rtol=1e-15)
    hard = one.in_float64("Hardmax", [x], opset, axis=1)[0]
    assert hard.sum() == (1 if opset < 13 else 2)
    assert hard[0, 0, 0] == 1


def test_softmax_below_opset_13_normalizes_from_axis_1_by_default(one: OneOperator) -> None:
    assert (one.in_float64("Softmax", [np.zeros((1, 4, 1, 1), np.float32)], 12)[0] == 0.25).all()
    assert (one.in_float64("Softmax", [np.zeros((1, 4, 1, 1), np.float32)], 13)[0] == 1).all()


@pytest.mark.parametrize("opset", [7, 9, 13, 14, 15])
def test_batch_normalization_infers_at_every_opset(one: OneOperator, opset: int) -> None:
    statistics = [values(2), values(1), values(1), values(4)]  # scale, bias, mean, variance
    y = one.in_float64("BatchNormalization", [np.full((1, 1, 2), 3, np.float32), *statistics], opset, epsilon=0.0)[0]
    assert (y == 3).all()


@pytest.mark.parametrize(("opset", "outputs", "training"), [(7, 5, {}), (9, 5, {}), (14, 3, {"training_mode": 1})])
def test_batch_normalization_trains_where_the_opset_says_so(
    one: OneOperator, opset: int, outputs: int, training: dict[str, int]
) -> None:
    inputs = [values([0], [2]), values(1), values(0), values(5), values(5)]
    more = {"outputs": outputs, "epsilon": 0.0, "momentum": 0.5, **training}
    y, *statistics = one.in_float64("BatchNormalization", inputs, opset, **more)
    assert y.ravel().tolist() == [-1, 1]
    running_and_batch = [each.item() for each in statistics]
    assert running_and_batch == [3, 3, 1, 1][: outputs - 1]


def test_resize_and_upsample_of_old_opsets(one: OneOperator) -> None:
    row = values([[[1, 2, 3, 4]]])
    smaller, larger = values(1, 1, 1, 0.6), values(1, 1, 1, 2)
    assert one.in_float64("Resize", [row, smaller], 10, constants=[1])[0].ravel().tolist() == [1, 3]
    pair = values([[[1, 3]]])
    for opset in (7, 9):
        inputs: list[Any] = [pair] if opset == 7 else [pair, larger]
        more: dict[str, Any] = {"scales": [1.0, 1.0, 1.0, 2.0]} if opset == 7 else {"constants": [1]}
        assert one.in_float64("Upsample", inputs, opset, **more)[0].ravel().tolist() == [1, 1, 3, 3]
        assert one.in_float64("Upsample", inputs, opset, mode="linear", **more)[0].ravel().tolist() == [1, 2, 3, 3]


def test_cubic_resize_to_length_1_takes_the_first_position(one: OneOperator) -> None:
    empty = np.zeros(0, np.float32)
    inputs = [values([[[7, 2, 3, 4]]]), empty, empty, np.array([1, 1, 1, 1])]
    more = {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel", "constants": [1, 2, 3]}
    assert one.in_float64("Resize", inputs, 13, **more)[0].item() == 7


def test_resize_refuses_what_the_definition_leaves_open(one: OneOperator) -> None:
    inputs = [values([[[1, 2, 3, 4]]]), np.zeros(0, np.float32), values(1, 1, 1, 0.6)]
    more = {"mode": "linear", "coordinate_transformation_mode": "align_corners", "constants": [1, 2]}
    with pytest.raises(NotImplementedError, match="align_corners with a scale that gives no whole length"):
        one.in_float64("Resize", inputs, 13, **more)


@pytest.mark.parametrize(("opset", "mode"), [(16, "bicubic"), (20, "cubic")])
def test_cubic_grid_sample_repeats_the_border_pixel_not_the_border_position(
    one: OneOperator, opset: int, mode: str
) -> None:
    """At a quarter of a pixel beyond the right one, the left pixel still has a weight."""
    image, grid = np.array([[[[0, 1]]]], np.float32), values([[[1.5, 0]]])
    more = {"mode": mode, "padding_mode": "border", "align_corners": 1}
    assert one.in_float64("GridSample", [image, grid], opset, **more)[0].item() == 1 + CUBIC_AT_1_25


def test_grid_sample_16_and_affine_grid(one: OneOperator) -> None:
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert one.in_float64("GridSample", [image, values([[[0, 0]]])], 16, mode="bilinear")[0].item() == 1.5
    identity = values([[1, 0, 0], [0, 1, 0]])
    grid = one.in_float64("AffineGrid", [identity, np.array([1, 1, 1, 2])], 20, constants=[1])[0]
    assert grid.tolist() == [[[[-0.5, 0], [0.5, 0]]]]


@pytest.mark.parametrize("spatial", [(2,), (1, 2), (1, 2, 1)])
def test_global_pools_of_any_rank(one: OneOperator, spatial: tuple[int, ...]) -> None:
    x = values(3, -4, 6, 8).reshape(1, 2, *spatial)
    assert (
        one.in_float64("GlobalMaxPool", [x], 1)[0].tolist() == np.reshape([3, 8], (1, 2, *[1] * len(spatial))).tolist()
    )
    assert one.in_float64("GlobalAveragePool", [x], 1)[0].ravel().tolist() == [-0.5, 7]
    assert one.in_float64("GlobalLpPool", [x], 2)[0].ravel().tolist() == [5, 10]


def test_pools_of_integers_and_norms(one: OneOperator) -> None:
    codes = np.array([[[-7, -3, -120, -5]]], np.int8)
    assert one.in_float64("MaxPool", [codes], 12, kernel_shape=[2], pads=[1, 0])[0].tolist() == [[[-7, -3, -3, -5]]]
    row = values([[3, 4, 12]])
    assert one.in_float64("LpPool", [row], 22, kernel_shape=[2], strides=[2], ceil_mode=1)[0].tolist() == [[[5, 12]]]
    places = np.array([[[1, 2]]])
    assert one.in_float64("MaxUnpool", [values([[5, 6]]), places], 22, kernel_shape=[2], strides=[2])[0].tolist() == [
        [[0, 5, 6, 0]]
    ]
    with pytest.raises(NotImplementedError, match="output_shape"):
        one.in_float64("MaxUnpool", [values([[5, 6]]), places, np.array([1, 1, 5])], 22, kernel_shape=[2])


def test_normalization_over_all_channels_and_by_magnitudes(one: OneOperator) -> None:
    x = values(0, 1, 2).reshape(1, 3, 1, 1)
    y = one.in_float64("LRN", [x], 13, size=1, alpha=1.0, beta=1.0, bias=1.0)[0]
    assert y.ravel().tolist() == [0, 0.5, 0.4]
    assert one.in_float64("LpNormalization", [values([-1, 3])], 22, p=1)[0].tolist() == [[-0.25, 0.75]]


def test_layer_normalization_of_large_float16_values(one: OneOperator) -> None:
    """Their squares overflow in float16; ONNX defines the operator in float32."""
    x, scale = np.array([[60000, -60000]], np.float16), np.ones(2, np.float16)
    for outputs in (one.in_float64, one.in_file_dtypes):
        assert np.allclose(outputs("LayerNormalization", [x, scale], 17)[0], [[1, -1]], rtol=1e-3)
        assert np.allclose(outputs("RMSNormalization", [x, scale], 23)[0], [[1, -1]], rtol=1e-3)
    assert one.in_file_dtypes("LayerNormalization", [x, scale], 17, outputs=2)[1].dtype == np.float32


@pytest.mark.parametrize(("opset", "scale", "bias"), [(18, [1, 2], [0, 5]), (21, [1, 1, 2, 2], [0, 0, 5, 5])])
def test_group_normalization(one: OneOperator, opset: int, scale: list[float], bias: list[float]) -> None:
    inputs = [values([1, 3, 0, 4]), values(*scale), values(*bias)]
    y = one.in_float64("GroupNormalization", inputs, opset, num_groups=2, epsilon=0.0)[0]
    assert y.tolist() == [[-1, 1, 3, 7]]


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_sequence_ends_at_its_length(one: OneOperator, direction: str) -> None:
    """With an input weight and a recurrent weight of 1 each, without rounding: h = tanh(x + h)."""
    x = values(1, 2, 9).reshape(3, 1, 1)
    weight, lengths = values([[1]]), np.array([2], np.int32)
    inputs = [x, weight, weight, None, lengths]
    y, last = one.in_float64("RNN", inputs, 14, outputs=2, hidden_size=1, direction=direction)
    first, second = (1, 2) if direction == "forward" else (2, 1)
    states = [tanh(first), tanh(second + tanh(first))]
    assert np.allclose(y.ravel(), [*(states if direction == "forward" else states[::-1]), 0], rtol=1e-15)
    assert np.isclose(last.item(), states[1], rtol=1e-15)


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_short_sequence_gives_what_it_gives_alone(
    one: OneOperator, operator: str, gates: int, direction: str
) -> None:
    rng = np.random.default_rng(0)
    directions = 2 if direction == "bidirectional" else 1
    x, w, r, b = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((4, 2, 3), (directions, 2 * gates, 3), (directions, 2 * gates, 2), (directions, 4 * gates))
    )
    more: dict[str, Any] = {"hidden_size": 2, "direction": direction, "outputs": 3 if operator == "LSTM" else 2}
    together = one.in_float64(operator, [x, w, r, b, np.array([4, 2], np.int32)], 14, **more)
    alone = one.in_float64(operator, [x[:2, 1:], w, r, b], 14, **more)
    assert np.allclose(together[0][:2, :, 1:], alone[0])
    assert not together[0][2:, :, 1].any()
    for state, single in zip(together[1:], alone[1:], strict=True):
        assert np.allclose(state[:, 1:], single)
    batch_first = one.in_float64(operator, [x.swapaxes(0, 1).copy(), w, r, b], 14, layout=1, **more)
    steps_first = one.in_float64(operator, [x, w, r, b], 14, **more)
    assert np.allclose(batch_first[0], np.transpose(steps_first[0], (2, 0, 1, 3)))
    assert np.allclose(batch_first[1], steps_first[1].swapaxes(0, 1))


def test_lstm_gates_with_peepholes(one: OneOperator) -> None:
    """All weights 0: input and forget gate see only their peepholes times the old cell, which is 1."""
    none = np.zeros((1, 4, 1), np.float32)
    state, peepholes = values([[1]]), values([log(3), 0, log(7)])  # i, o, f
    inputs = [values([[5]]), none, none, None, None, 0 * state, state, peepholes]
    h, _, cell = one.in_float64("LSTM", inputs, 14, outputs=3, hidden_size=1)
    assert np.isclose(cell.item(), 0.875, rtol=1e-6)
    assert np.isclose(h.item(), 0.5 * tanh(0.875), rtol=1e-6)
    with pytest.raises(NotImplementedError, match="clip"):
        one.in_float64("LSTM", inputs, 14, outputs=3, hidden_size=1, clip=0.5)


def test_gru_linear_before_reset(one: OneOperator) -> None:
    """All weights 0, biases of the candidate 1 and 2: tanh(1 + r * 2) with r = 1/2, half of it kept."""
    none = np.zeros((1, 3, 1), np.float32)
    bias = values([0, 0, 1, 0, 0, 2])
    inputs = [values([[5]]), none, none, bias]
    h = one.in_float64("GRU", inputs, 14, hidden_size=1, linear_before_reset=1)[0].item()
    assert np.isclose(h, tanh(2) / 2, rtol=1e-15)
    h = one.in_float64("GRU", inputs, 14, hidden_size=1)[0].item()
    assert np.isclose(h, tanh(3) / 2, rtol=1e-15)


def test_roi_align_subtracts_half_a_pixel_from_opset_16_on(one: OneOperator) -> None:
    image, roi = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3), values([0, 0, 2, 2])
    inputs = [image, roi, np.array([0])]
    assert one.in_float64("RoiAlign", inputs, 10, sampling_ratio=1)[0].item() == 4
    assert one.in_float64("RoiAlign", inputs, 16, sampling_ratio=1)[0].item() == 2


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
def test_quantization_rounds_to_even_and_saturates(one: OneOperator, opset: int) -> None:
    scale, zero = np.float32(2) * np.ones((), np.float32), np.full((), 1, np.uint8)
    y = one.in_float64("QuantizeLinear", [values(5, 7, -9, 9999), scale, zero], opset)[0]
    assert y.tolist() == [3, 5, 0, 255]
    x = one.in_float64("DequantizeLinear", [np.array([0, 3], np.uint8), scale, zero], opset)[0]
    assert (x.tolist(), x.dtype.name) == ([-2, 4], "float64")


def test_ties_are_those_of_the_dtype_of_the_file(one: OneOperator) -> None:
    """0.05 / 0.02 is 2.5 in float32, which rounds to 2; the exact quotient is slightly larger."""
    inputs = [values(0.05), np.array(0.02, np.float32), np.zeros((), np.uint8)]
    assert np.float32(0.05) / np.float32(0.02) == 2.5
    assert one.in_file_dtypes("QuantizeLinear", inputs, 13)[0].tolist() == [2]
    assert one.in_float64("QuantizeLinear", inputs, 13)[0].tolist() == [3]


def test_quantization_by_axis_and_by_block(one: OneOperator) -> None:
    x = values([1, 2, 3], [4, 5, 6])
    by_axis = one.in_float64("QuantizeLinear", [x, values(1, 2), np.array([0, 10], np.int8)], 13, axis=0)[0]
    assert by_axis.tolist() == [[1, 2, 3], [12, 12, 13]]
    blocks = [values([1, 10], [2, 20]), np.zeros((2, 2), np.int8)]
    codes = x.astype(np.int8)
    by_block = one.in_float64("DequantizeLinear", [codes, *blocks], 21, axis=1, block_size=2)[0]
    assert by_block.tolist() == [[1, 2, 30], [8, 10, 120]]
    codes, scale, zero = one.in_float64("DynamicQuantizeLinear", [values(-1, 0, 4)], 11, outputs=3)
    assert (codes.tolist(), scale.item(), zero.item()) == ([0, 51, 255], 5 / 255, 51)


@pytest.mark.parametrize("opset", [9, 11])
def test_one_hot_takes_a_vector_of_one_for_the_depth(one: OneOperator, opset: int) -> None:
    pair = values(0.5, 2.5)
    y = one.in_float64("OneHot", [np.array([1, 5]), np.array([2]), pair], opset, constants=[1])[0]
    assert y.tolist() == [[0.5, 2.5], [0.5, 0.5]]
    negative = [np.array([-1]), np.array([2]), pair]
    if opset == 9:
        with pytest.raises(NotImplementedError, match="negative"):
            one.in_float64("OneHot", negative, opset, constants=[1])
    else:
        assert one.in_float64("OneHot", negative, opset, constants=[1])[0].tolist() == [[0.5, 2.5]]


@pytest.mark.parametrize("opset", [11, 13])
def test_gather_elements_takes_long_axes_and_fewer_places_along_the_others(one: OneOperator, opset: int) -> None:
    data = np.arange(400, dtype=np.float32).reshape(100, 4)
    across = one.in_float64("GatherElements", [data.T.copy(), np.array([[99, -1, 0]])], opset, axis=1)[0]
    assert across.tolist() == [[396, 396, 0]]
    down = one.in_float64("GatherElements", [data, np.array([[70, 1], [99, -100]])], opset, axis=0)[0]
    assert down.tolist() == [[280, 5], [396, 1]]
    assert one.in_float64("GatherElements", [data, np.array([[70], [99]])], opset)[0].tolist() == [[280], [396]]


@pytest.mark.parametrize("opset", [10, 11])
def test_non_max_suppression_keeps_the_best_of_boxes_that_overlap(one: OneOperator, opset: int) -> None:
    # 0 and 1 share 9 of 11, 2 is apart and has its corners the other way round, 3 shares a side with 2 and has no area.
    corners = values([[0, 0, 10, 1], [1, 0, 11, 1], [30, 1, 20, 0], [20, 0, 20, 1]])
    scores = values([[0.5, 0.75, 0.25, 0.25], [0.5, 0.5, 0.5, 0.0]])
    limits = [np.array([3]), values(0.5), values(0.1)]

    def kept(boxes: Any, *more: Any, **attributes: int) -> Any:
        constants = range(2, 2 + len(more))
        inputs = [boxes, scores, *more]
        return one.in_float64("NonMaxSuppression", inputs, opset, constants=constants, **attributes)[0].tolist()

    first, second = [[0, 0, 1], [0, 0, 2], [0, 0, 3]], [[0, 1, 0], [0, 1, 2]]
    assert kept(corners, *limits) == first + second
    centers = values([[5, 0.5, 10, 1], [6, 0.5, 10, 1], [25, 0.5, 10, 1], [20, 0.5, 0, 1]])
    assert kept(centers, *limits, center_point_box=1) == first + second
    assert kept(corners, np.array([1]), values(0.5)) == [first[0], second[0]]
    assert kept(corners, np.array([9]), values(0.9))[:2] == [[0, 0, 1], [0, 0, 0]]
    assert kept(corners) == []


def test_cast_like(one: OneOperator) -> None:
    assert one.in_float64("CastLike", [values(-1.7, 2.2), np.zeros(1, np.int32)], 15)[0].tolist() == [-1, 2]
