"""Copies: of torch tensors as NumPy arrays and back, in every dtype and layout of a case, and of modules."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.spec.language.case import Layout

Array = NDArray[Any]
Module = TypeVar("Module", bound=nn.Module)

# The dtypes that NumPy itself lacks: (torch, ml_dtypes, an integer of the same width in torch and in NumPy).
_FOREIGN: tuple[tuple[torch.dtype, np.dtype[Any], torch.dtype, np.dtype[Any]], ...] = (
    (torch.bfloat16, np.dtype(ml_dtypes.bfloat16), torch.int16, np.dtype(np.int16)),
    (torch.float8_e4m3fn, np.dtype(ml_dtypes.float8_e4m3fn), torch.int8, np.dtype(np.int8)),
    (torch.float8_e4m3fnuz, np.dtype(ml_dtypes.float8_e4m3fnuz), torch.int8, np.dtype(np.int8)),
    (torch.float8_e5m2, np.dtype(ml_dtypes.float8_e5m2), torch.int8, np.dtype(np.int8)),
    (torch.float8_e5m2fnuz, np.dtype(ml_dtypes.float8_e5m2fnuz), torch.int8, np.dtype(np.int8)),
)
_FROM_NUMPY = {numpy_dtype: (torch_dtype, bits) for torch_dtype, numpy_dtype, _, bits in _FOREIGN}
_FROM_TORCH = {torch_dtype: (numpy_dtype, bits) for torch_dtype, numpy_dtype, bits, _ in _FOREIGN}

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_torch(array: Array, layout: Layout | None = None) -> torch.Tensor:
    """A tensor on the CPU with a copy of the values of ``array``.

    ``contiguous`` is row-major. ``channels_last`` keeps the second axis innermost; it is defined for four and five
    axes, and for any other number the layout is contiguous. ``strided`` is every second element of the last axis of a
    buffer twice as wide; the other elements are NaN (or the largest integer), so that a kernel that ignores strides
    gives wrong outputs. None keeps the strides of ``array`` if they are positive, else the layout is contiguous.
    """
    if layout is None:
        return copy_tensor(as_tensor(array))
    tensor = as_tensor(np.ascontiguousarray(array).reshape(array.shape))
    if layout == "strided" and tensor.dim():
        wide = _filled_with_nan((*tensor.shape[:-1], 2 * tensor.shape[-1]), tensor.dtype)
        return wide[..., ::2].copy_(tensor)
    if layout == "channels_last" and tensor.dim() in _CHANNELS_LAST:
        return tensor.clone().contiguous(memory_format=_CHANNELS_LAST[tensor.dim()])
    return tensor.clone()


def to_numpy(tensor: torch.Tensor) -> Array:
    """A copy of the values of ``tensor`` on the host, with the strides of :func:`copy_tensor`.

    A dtype that NumPy lacks (bfloat16, the 8-bit floats) becomes the ml_dtypes dtype of the same name.
    """
    copied = copy_tensor(tensor.detach().resolve_conj().resolve_neg().cpu())
    if copied.dtype in _FROM_TORCH:
        numpy_dtype, bits = _FROM_TORCH[copied.dtype]
        return copied.view(bits).numpy().view(numpy_dtype)
    array: Array = copied.numpy()
    return array


def copy_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the strides of ``tensor``; contiguous if elements overlap or take more than twice their memory."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if extent == tensor.numel():  # no gaps, as in nearly every tensor
        return tensor.clone()
    if tensor.numel() == 0 or 0 in tensor.stride() or not tensor.numel() <= extent <= 2 * tensor.numel():
        return tensor.clone(memory_format=torch.contiguous_format)
    return _filled_with_nan((extent,), tensor.dtype).as_strided(tensor.shape, tensor.stride()).copy_(tensor)


def as_tensor(array: Array) -> torch.Tensor:
    """``array`` as a tensor, on shared memory if torch can."""
    if not array.flags.writeable or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        # torch refuses negative strides and warns about read-only memory.
        array = array.copy()
    if array.dtype in _FROM_NUMPY:
        torch_dtype, bits = _FROM_NUMPY[array.dtype]
        return torch.from_numpy(array.view(bits)).view(torch_dtype)
    return torch.from_numpy(array)


def _filled_with_nan(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A buffer with gaps that no kernel should read: NaN, or the largest value of a dtype without NaN."""
    if dtype.is_floating_point or dtype.is_complex:
        return torch.empty(shape, dtype=dtype).fill_(float("nan"))
    return torch.full(shape, True if dtype == torch.bool else torch.iinfo(dtype).max, dtype=dtype)


def copy_module(module: Module, *, aliased: bool = False) -> Module:
    """``copy.deepcopy(module)`` in half the time, also with tensors that deepcopy refuses.

    In a layer without hooks, 11 of 20 parts are the empty tables for hooks, and copying those takes longer than
    copying all the rest. They are replaced by new empty tables through the memo of ``deepcopy``.

    ``weight_norm`` and ``prune`` keep a computed weight as a plain attribute and compute it again before each call.
    deepcopy refuses a tensor with a gradient history, so these are copied by value.

    Large parameters share their memory with the original until one of the two is changed. With ``aliased`` they are
    the same memory for good: for a caller that reads them and changes nothing.
    """
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        if _owns_its_memory(parameter) and parameter.nbytes >= LARGE_PARAMETER_BYTES:
            data = parameter.detach() if aliased else _copy_on_write(parameter.detach())
            memo[id(parameter)] = nn.Parameter(data, parameter.requires_grad)
    for submodule in module.modules():
        for value in vars(submodule).values():
            if type(value) is OrderedDict and not value:
                memo[id(value)] = OrderedDict[object, object]()
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


LARGE_PARAMETER_BYTES = 1 << 20
"""From this size on, copies of a module share a parameter; below, copying it is as fast."""


def _owns_its_memory(parameter: nn.Parameter) -> bool:
    """Whether nothing but this parameter, dense and on the CPU, uses its storage as far as can be seen."""
    return (
        type(parameter) is nn.Parameter
        and parameter.is_leaf
        and parameter.layout == torch.strided
        and parameter.device.type == "cpu"
        and parameter.untyped_storage().nbytes() == parameter.nbytes
    )


def _copy_on_write(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that takes memory of its own once it or ``tensor`` is changed; an ordinary copy without such in torch."""
    lazy_clone: Callable[[torch.Tensor], torch.Tensor] = getattr(torch, "_lazy_clone", torch.clone)
    return lazy_clone(tensor)
