"""Sequences, maps and optionals laid out as named arrays, so that they are compared as tensors are.

    s = [a, b]         len(s) = 2,  s[0] = a,  s[1] = b
    m = {k: v}         m.keys = [k],  m.values = [v]
    o, an optional     has(o) = True,  o = ...;  or has(o) = False

So a sequence that is too long, or an optional that should be empty, differs in an array, and something is compared
even where both are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.runtimes import Value

Array = NDArray[Any]


def laid_out(name: str, value: Value, *, optional: bool = False) -> dict[str, Array]:
    """``value`` as arrays by names that begin with ``name``; ``optional`` where it may be nothing."""
    if optional or value is None:
        held = {} if value is None else laid_out(name, value)
        return {f"has({name})": np.array(value is not None), **held}
    if isinstance(value, Mapping):
        keys = sorted(value)
        values = [np.float32(value[key]) if type(value[key]) is float else value[key] for key in keys]
        return {f"{name}.keys": np.array(keys), f"{name}.values": np.array(values)}
    if isinstance(value, np.ndarray | np.generic):
        return {name: np.asarray(value)}
    items = {f"len({name})": np.array(len(value), np.int64)}
    for index, item in enumerate(value):
        items |= laid_out(f"{name}[{index}]", item)
    return items
