"""Tensors as Python source: literal where they are small, drawn by the same rule where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.case import Fill, TensorSpec
from harness.spec.fill import array

SMALL = 64
"""A drawn tensor of at most so many elements is written out."""


def drawn(spec: TensorSpec) -> str | None:
    """The kind of fill that the script needs a function for, to make ``spec``; None where it needs none."""
    fill = spec.fill or Fill("normal")
    if spec.values is not None or fill.kind in {"ones", "zeros", "full", "arange"}:
        return None
    return None if not spec.takes_shape and prod(spec.shape) <= SMALL else fill.kind


def tensor(spec: TensorSpec) -> str:
    """An expression for the tensor, in its layout; a weight's may speak of its parameter as ``held``."""
    dtype = f"torch.{spec.dtype}"
    fill = spec.fill or Fill("normal")
    shape = "held.shape" if spec.takes_shape else str(spec.shape)
    count = "held.numel()" if spec.takes_shape else str(prod(spec.shape))
    if spec.values is not None or (drawn(spec) is None and fill.kind not in {"ones", "zeros", "full", "arange"}):
        text = _written(array(spec), dtype)
    elif fill.kind in {"ones", "zeros"}:
        text = f"torch.{fill.kind}({shape}, dtype={dtype})"
    elif fill.kind == "full":
        text = f"torch.full({shape}, {_number(fill.parameters[0])}, dtype={dtype})"
    elif fill.kind == "arange":
        text = f"torch.arange({count}).to({dtype}).reshape({shape})"
    else:
        given = "".join(f"{_number(each)}, " for each in fill.parameters)
        given = f"({given.removesuffix(' ')}), " if fill.kind == "choice" else given
        text = f"{fill.kind}({given}{count}, seed={spec.seed}, dtype={dtype}).reshape({shape})"
    return laid_out(text, spec)


def laid_out(text: str, spec: TensorSpec) -> str:
    """``text`` in the layout of ``spec``."""
    if spec.layout == "channels_last" and len(spec.shape) in {4, 5}:
        form = "channels_last" if len(spec.shape) == 4 else "channels_last_3d"
        return f"{text}.contiguous(memory_format=torch.{form})"
    if spec.layout == "strided" and spec.shape:
        return f"torch.stack([{text}] * 2, dim=-1).flatten(-2)[..., ::2]"
    return text


def _written(values: NDArray[Any], dtype: str) -> str:
    if 0 in values.shape:
        return f"torch.empty({values.shape}, dtype={dtype})"
    return f"torch.tensor({_nested(values)}, dtype={dtype})"


def _nested(values: NDArray[Any]) -> str:
    if values.ndim:
        return "[" + ", ".join(_nested(each) for each in values) + "]"
    return _number(values[()])


def _number(value: Any) -> str:
    """The shortest text that is read back as the same number of its own dtype."""
    if isinstance(value, np.bool_ | bool):
        return str(bool(value))
    if isinstance(value, np.integer | int):
        return str(int(value))
    if not np.isfinite(value):
        return f'float("{float(value)}")'
    return np.format_float_positional(value, trim="0") if 1e-4 <= abs(float(value)) < 1e6 or not value else str(value)


def kinds(specs: Sequence[TensorSpec]) -> list[str]:
    """The kinds of fill that a script with ``specs`` needs a function for."""
    return sorted({kind for spec in specs if (kind := drawn(spec)) is not None})
