"""Copies: of torch tensors as NumPy arrays and back, in every dtype and layout of a case, and of modules."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.errors import UsageError
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


ON_META = "on the meta device, which holds no values"


def copied_to_cpu(module: Module, words: str) -> Module:
    """A copy of ``module`` on the CPU; messages call it ``words``.

    Raises :class:`UsageError` for one that has parameters or buffers on the meta device.
    """
    require_values(module, words)
    return copy_module(module).cpu()


def require_values(module: nn.Module, words: str) -> None:
    """Raise :class:`UsageError` if parameters or buffers of ``module`` are on the meta device."""
    without = [name for name, each in (*module.named_parameters(), *module.named_buffers()) if each.is_meta]
    if without:
        are = "is" if len(without) == 1 else f"and {len(without) - 1:,} more are"
        raise UsageError(f"{words}: {without[0]} {are} {ON_META}; build it on the CPU, or load its weights first")


def copy_module(module: Module, *, aliased: bool = False) -> Module:
    """``copy.deepcopy(module)`` in half the time, also with tensors that deepcopy refuses.

    In a layer without hooks, 11 of 20 parts are the empty tables for hooks, and copying those takes longer than
    copying all the rest. They are replaced by new empty tables through the memo of ``deepcopy``.

    ``weight_norm`` and ``prune`` keep a computed weight as a plain attribute and compute it again before each call.
    deepcopy refuses a tensor with a gradient history, so these are copied by value.

    Large parameters share their memory with the original until one of the two is changed. With ``aliased`` they are
    the same memory for good: for a caller that reads them and changes nothing.

    What deepcopy refuses for another reason (a lock, an open file, a generator) is shared with the original. Hooks and
    replaced methods that refer to the module's parts through their closures refer to the parts of the copy.
    """
    try:
        memo = _first_copies(module, aliased=aliased)
        copied = copy.deepcopy(module, memo)
    except Exception:  # any class of the user's may refuse, in its own words
        shared = {id(each): each for part in module.modules() for each in _uncopyable(vars(part), module)}
        if not shared:
            raise
        memo = {**_first_copies(module, aliased=aliased), **shared}
        copied = copy.deepcopy(module, memo)
    for part in copied.modules():
        _rebind(vars(part), memo)
    return copied


def _first_copies(module: nn.Module, *, aliased: bool) -> dict[int, object]:
    """The memo that ``deepcopy`` begins with."""
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
    return memo


def _uncopyable(values: Mapping[Any, Any], module: nn.Module) -> Iterator[object]:
    """The values at any depth in plain containers that ``deepcopy`` refuses by themselves."""
    whole: dict[int, object] = {id(part): part for part in module.modules()}
    for value in values.values():
        if isinstance(value, nn.Module | torch.Tensor):
            continue
        try:
            copy.deepcopy(value, {**whole, **{id(each): each for each in _tensors_in(value)}})
        except Exception:  # noqa: BLE001 - as in copy_module
            inner = dict(enumerate(value)) if isinstance(value, list | tuple) else value
            if isinstance(inner, dict):
                yield from _uncopyable(inner, module)
            else:
                yield value


def _tensors_in(value: object) -> Iterator[torch.Tensor]:
    contained = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    yield from (each for each in contained if isinstance(each, torch.Tensor))


def _rebind(values: dict[Any, Any], memo: dict[int, object]) -> None:
    """Let the functions in ``values``, also in its dicts (of hooks), refer to copies in place of the originals.

    deepcopy takes a function for a constant.
    """
    for key, value in list(values.items()):
        if type(value) is FunctionType and _refers_to_module(value):
            values[key] = _rebound(value, memo)
        elif isinstance(value, dict) and value:
            _rebind(value, memo)


def _refers_to_module(function: FunctionType, depth: int = 3) -> bool:
    return depth > 0 and any(
        isinstance(content, nn.Module | torch.Tensor)
        or (isinstance(content, MethodType) and isinstance(content.__self__, nn.Module))
        or (type(content) is FunctionType and _refers_to_module(content, depth - 1))
        for content in _closure(function)
    )


def _closure(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue


def _rebound(function: FunctionType, memo: dict[int, object]) -> FunctionType:
    """``function`` with a closure of copies."""
    if isinstance(known := memo.get(id(function)), FunctionType):  # functions may refer to each other
        return known
    cells = tuple(CellType() for _ in function.__closure__ or ())
    new = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    new.__kwdefaults__, new.__dict__ = function.__kwdefaults__, dict(function.__dict__)
    memo[id(function)] = new
    for cell, own in zip(function.__closure__ or (), cells, strict=True):
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if type(content) is FunctionType and _refers_to_module(content):
            content = _rebound(content, memo)
        elif isinstance(content, nn.Module | torch.Tensor | MethodType) and _known(content, memo):
            content = copy.deepcopy(content, memo)
        own.cell_contents = content
    return new


def _known(content: nn.Module | torch.Tensor | MethodType, memo: dict[int, object]) -> bool:
    """Whether ``content`` is a part of the copied module, or a method of one."""
    return id(content.__self__ if isinstance(content, MethodType) else content) in memo


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
