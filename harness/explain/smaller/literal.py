"""Tensors with their values written out, so that single ones can be kept, dropped and made plainer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.spec.case import TensorSpec
from harness.spec.fill import array

READABLE = 64
"""At most so many elements are written out one by one."""


def written_out(spec: TensorSpec) -> TensorSpec:
    """``spec`` with what its fill draws as literal values in their shortest form; itself where it has values."""
    if spec.values is not None:
        return spec
    short = np.vectorize(_short, otypes=[object])(array(spec))
    return replace(spec, values=frozen(short.tolist()), fill=None)


def frozen(values: object) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(frozen, values)) if isinstance(values, list) else values


def _short(number: Any) -> Any:
    """The shortest decimal that is read back as the same number of its dtype; a Python number."""
    if isinstance(number, bool | np.bool_ | int | np.integer):
        return number.item() if isinstance(number, np.generic) else number
    return float(str(number))
