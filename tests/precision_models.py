"""Small ONNX models in which one layer is planted to lose accuracy in a lower precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 32


def write_chain(path: Path, weights: Sequence[Any], *, scaled: tuple[float, float] | None = None) -> None:
    """A chain of nodes ``/layerN/MatMul``; ``scaled``: factors of ``/up/Mul`` and ``/down/Mul`` after the first."""
    nodes, constants, value = [], [], "x"

    def add(operator: str, name: str, values: Any) -> None:
        nonlocal value
        nodes.append(helper.make_node(operator, [value, f"{name}.w"], [f"{name}.y"], name=f"/{name}/{operator}"))
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32), f"{name}.w"))
        value = f"{name}.y"

    for index, values in enumerate(weights):
        add("MatMul", f"layer{index}", values)
        if index == 0 and scaled is not None:
            for name, factor in zip(("up", "down"), scaled, strict=True):
                add("Mul", name, factor)
    nodes[-1].output[0] = "y"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in "xy")
    graph = helper.make_graph(nodes, "chain", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def even_weights(count: int, seed: int = 0) -> list[Any]:
    """Orthogonal matrices: each keeps the size of what it is given, and none is worse to quantize than another."""
    generator = np.random.default_rng(seed)
    return [np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))[0] for _ in range(count)]


def outlier_weights(count: int, layer: int, channel: int = 5, factor: float = 300.0) -> list[Any]:
    """Even weights, but those of ``layer`` that read ``channel`` are so large that one scale fits no others.

    The layer before writes zeros there, so that the outputs are those of even weights in float32.
    """
    weights = even_weights(count)
    weights[layer - 1][:, channel] = 0
    weights[layer][channel] *= factor
    return weights


def write_samples(folder: Path, count: int = 3, **more: Any) -> Mapping[str, Any]:
    """Samples ``0.npz``, ...; ``more`` are further ones by name."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    samples = {str(index): generator.normal(size=(4, WIDTH)).astype(np.float32) for index in range(count)} | more
    for name, values in samples.items():
        np.savez(folder / f"{name}.npz", x=values)
    return samples
