"""ONNX Runtime's fused products and activations, which its optimizer and its tools for transformers write.

Defined in https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np

from harness.blame.operators._operator import MICROSOFT, Array, Operator, in_domains, wide

_ERF = np.frompyfunc(erf, 1, 1)


def gelu(x: Array) -> Array:
    """``x`` times the probability that a normal variable is below x."""
    result: Array = x / 2 * (1 + np.asarray(_ERF(x / sqrt(2)), np.float64))
    return result


def gelu_by_tanh(x: Array) -> Array:
    """The approximation of :func:`gelu` by a hyperbolic tangent."""
    result: Array = x / 2 * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    return result


class Gelu(Operator):
    """Gelu, in ONNX's domain with the approximation that its attribute asks for."""

    def compute(self, x: Array, approximate: str = "none", **_: Any) -> tuple[Array]:
        """The activation."""
        return ((gelu_by_tanh if approximate == "tanh" else gelu)(wide(x)).astype(x.dtype),)


class BiasGelu(Operator):
    """Gelu of a sum."""

    op_domain = MICROSOFT

    def compute(self, x: Array, bias: Array, **_: Any) -> tuple[Array]:
        """The activation."""
        return (gelu(wide(x) + wide(bias)).astype(x.dtype),)


class FastGelu(Operator):
    """Gelu by a hyperbolic tangent, of a sum where there is a bias."""

    op_domain = MICROSOFT

    def compute(self, x: Array, bias: Array | None = None, **_: Any) -> tuple[Array]:
        """The activation."""
        return (gelu_by_tanh(wide(x) + (0.0 if bias is None else wide(bias))).astype(x.dtype),)


class QuickGelu(Operator):
    """``x`` times the sigmoid of ``alpha x``."""

    op_domain = MICROSOFT

    def compute(self, x: Array, alpha: float = 1.702, **_: Any) -> tuple[Array]:
        """The activation."""
        values = wide(x)
        return ((values / (1 + np.exp(-alpha * values))).astype(x.dtype),)


class FusedMatMul(Operator):
    """A scaled product of matrices that may be transposed."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        alpha: float = 1.0,
        transA: int = 0,  # noqa: N803 - ONNX Runtime's name
        transB: int = 0,  # noqa: N803
        transBatchA: int = 0,  # noqa: N803
        transBatchB: int = 0,  # noqa: N803
        **_: Any,
    ) -> tuple[Array]:
        """The product times alpha."""
        first, second = _factor(wide(a), transA, transBatchA), _factor(wide(b), transB, transBatchB)
        return ((alpha * np.matmul(first, second)).astype(a.dtype),)


class TransposeMatMul(FusedMatMul):
    """The older name of :class:`FusedMatMul`."""

    op_domain = MICROSOFT


class FusedGemm(Operator):
    """Gemm with an activation."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        c: Array | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,  # noqa: N803 - ONNX Runtime's name
        transB: int = 0,  # noqa: N803
        activation: str = "",
        activation_alpha: float = 0.01,
        **_: Any,
    ) -> tuple[Array]:
        """The activation of the sum."""
        product = alpha * _factor(wide(a), transA, 0) @ _factor(wide(b), transB, 0)
        total = product + (0.0 if c is None else beta * wide(c))
        activations: dict[str, Callable[[Array], Array]] = {
            "": lambda x: x,
            "Relu": lambda x: np.maximum(x, 0),
            "LeakyRelu": lambda x: np.where(x < 0, activation_alpha * x, x),
            "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "Tanh": np.tanh,
        }
        if activation not in activations:
            raise NotImplementedError(f"FusedGemm with activation {activation!r}")
        return (activations[activation](total).astype(a.dtype),)


def _factor(values: Array, transposed: int, batch_transposed: int) -> Array:
    """``values`` with the first axis behind the batch axes if ``batch_transposed``, then its last two exchanged."""
    if batch_transposed:
        values = np.moveaxis(values, 0, -2)
    return np.swapaxes(values, -1, -2) if transposed and values.ndim > 1 else values


MICROSOFT_FUSED_OPERATORS: tuple[type[Operator], ...] = (
    *in_domains(Gelu, "", MICROSOFT),
    BiasGelu,
    FastGelu,
    QuickGelu,
    FusedMatMul,
    TransposeMatMul,
    FusedGemm,
)
