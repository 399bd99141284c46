"""Eager torch in another precision: in float64, which is the reference of most modules, and in 16 bits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import bounded_text
from harness.layers import SUMS_OF_PRODUCTS, Answer
from harness.model.answer import Reference, outputs_by_name
from harness.model.build import Subject
from harness.model.running import eager_outputs, run_module, size_in_bytes
from harness.model.tensors import copy_module, copy_tensor, to_numpy
from harness.spec.language.case import Case, GraphModel, LayerModel, SequentialModel

Array = NDArray[Any]

HALF_DTYPES = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
"""The floating dtypes of 16 bits, the coarsest first."""


class CastsToFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, a cast to a floating dtype gives float64, as in a module that computes in half precision by itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        dtype = named.get("dtype") if func.overloadpacket.__name__ == "_to_copy" else None
        if dtype is not None and dtype.is_floating_point:
            named["dtype"] = torch.float64
        return func(*args, **named)


class _HalfPrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the 16-bit floating dtypes of what is computed inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dtype in HALF_DTYPES:
                self.dtypes.add(leaf.dtype)
        return result


def _half_dtype_of_call(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> str | None:
    """The coarsest 16-bit floating dtype that a call of ``module`` computes in; None if it computes in none."""
    with _HalfPrecision() as seen:
        eager_outputs(module, inputs, seed)
    return next((name for dtype, name in HALF_DTYPES.items() if dtype in seen.dtypes), None)


FLOAT32_ROUNDING = 1e-5
"""Rounding in float32 is a smaller share of an output's scale: at most 8e-7 (:mod:`harness.compare.calibrated`)."""


def inner_half_dtype(
    module: nn.Module, inputs: Sequence[torch.Tensor], eager: Sequence[torch.Tensor], float64: Answer | None, seed: int
) -> str | None:
    """The 16-bit dtype that a user's module computes in although an output is wider; None if it computes in none.

    A module that is as close to its float64 run as float32 is has no such dtype, or one that does not matter.
    """
    wide = [at for at, output in enumerate(eager) if output.dtype in {torch.float32, torch.float64}]
    if float64 is not None and not any(_is_far(to_numpy(eager[at]), float64.outputs[at]) for at in wide):
        return None
    return _half_dtype_of_call(module, inputs, seed) if wide else None


def _is_far(eager: Array, float64: Array) -> bool:
    """True if the two differ by more than float32 leaves of rounding."""
    if eager.shape != float64.shape:
        return False
    finite = np.isfinite(eager) & np.isfinite(float64)
    expected = float64[finite].astype(np.float64)
    return bool(np.linalg.norm(eager[finite] - expected) > FLOAT32_ROUNDING * np.linalg.norm(expected))


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds each floating tensor that is computed inside to ``dtype``. Values beyond its range become its largest."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dtype = dtype

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return pytree.tree_map(self.rounded, func(*args, **(kwargs or {})))

    def rounded(self, value: Any) -> Any:
        """``value`` in its own dtype, rounded if it is a floating tensor."""
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        largest = torch.finfo(self._dtype).max
        return torch.where(value.isfinite(), value.clamp(-largest, largest), value).to(self._dtype).to(value.dtype)


def _rounded_run(
    module: nn.Module, inputs: Sequence[torch.Tensor], dtype: torch.dtype, seed: int
) -> list[torch.Tensor]:
    """The outputs of ``module`` in its own dtype, with every tensor rounded to ``dtype``."""
    rounding, module = _Rounding(dtype), copy_module(module)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.copy_(rounding.rounded(tensor))
    with rounding:
        return run_module(module, [rounding.rounded(tensor) for tensor in inputs], seed)


def in_lower_precision(case: Case, subject: Subject, reference: Reference, precision: str) -> Reference:
    """``reference`` with eager torch's outputs of a run in ``precision``.

    A module that does not run so, as one that fills masks with -1e9 in float16, is run in its own dtype with every
    tensor rounded to ``precision``. Without such a run, a warning says why.
    """
    if reference.stochastic:
        return reference
    dtype = getattr(torch, precision)
    module = copy_module(subject.module).to(dtype)
    inputs = [torch.from_numpy(np.array(values)) for values in reference.inputs.values()]
    lowered = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        outputs = run_module(module, lowered, case.seed)
    except Exception as error:  # noqa: BLE001 - no kernel, or the module's own code refuses; the warning is in the log
        try:
            outputs = _rounded_run(subject.module, [copy_tensor(tensor) for tensor in inputs], dtype, case.seed)
        except Exception:  # noqa: BLE001 - the module does not run under a dispatch mode either
            warnings.warn(f"eager torch does not run in {precision}: {bounded_text(error)}", stacklevel=1)
            return reference
    return replace(reference, lower=outputs_by_name(map(floating_as_float64, outputs)))


def eager_in_float64(case: Case, module: nn.Module, inputs: Sequence[torch.Tensor]) -> Answer | None:
    """Eager torch's outputs in float64; None if the module does not run so.

    A user's own casts to a narrower dtype are widened, unless the module runs only with them.
    """
    is_of_layers = isinstance(case.model.model, LayerModel | SequentialModel | GraphModel)
    if not is_of_layers and size_in_bytes(module) >= LARGE_MODULE_BYTES:
        outputs = run_in_float64_by_layer(copy_module(module), _in_float64(inputs), case.seed)
        if outputs is not None:
            return Answer(tuple(map(to_numpy, outputs)))
    failure: Exception | None = None
    for casts in (nullcontext(),) if is_of_layers else (CastsToFloat64(), nullcontext()):
        double, wide = copy_module(module).double(), _in_float64(inputs)
        try:
            with casts:
                outputs = run_module(double, wide, case.seed)
        except Exception as error:  # noqa: BLE001 - the module does not run so, and eager alone is the reference
            failure = error
            continue
        return Answer(tuple(map(to_numpy, outputs)), magnitudes=_magnitudes(case, double, wide))
    if not isinstance(failure, RuntimeError | NotImplementedError):  # these two say that there is no float64 kernel
        warnings.warn(f"the module does not run in float64: {bounded_text(failure)}", stacklevel=1)
    return None


def _in_float64(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Copies of ``inputs``, in float64 where they are floating."""
    return [tensor.to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True) for tensor in inputs]


LARGE_MODULE_BYTES = 256 << 20
"""From this size on, a module runs in float64 layer by layer: a copy in float64 takes twice its memory."""


def run_in_float64_by_layer(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor] | None:
    """The outputs of ``module`` on ``inputs`` in float64, with the parameters of one layer at a time in float64.

    None if the module does not run so: a layer may use the parameters of another. ``module`` is changed.
    """
    for layer in module.modules():
        for name, value in layer.named_buffers(recurse=False):
            if value.is_floating_point():
                layer._buffers[name] = value.double()  # noqa: SLF001 - as nn.Module.to sets them
        own = {name: value for name, value in layer.named_parameters(recurse=False) if value.is_floating_point()}
        if own:
            layer.register_forward_pre_hook(partial(_widen, own))
            layer.register_forward_hook(partial(_restore, own))
    for casts in (CastsToFloat64(), nullcontext()):
        with suppress(Exception), casts:  # the caller tries the whole module in float64, and reports what that raises
            return run_module(module, list(map(copy_tensor, inputs)), seed)
    return None


def _widen(parameters: Mapping[str, nn.Parameter], layer: nn.Module, _inputs: object) -> None:
    for name, value in parameters.items():
        layer._parameters[name] = nn.Parameter(value.detach().double(), requires_grad=False)  # noqa: SLF001


def _restore(parameters: Mapping[str, nn.Parameter], layer: nn.Module, _inputs: object, _outputs: object) -> None:
    layer._parameters.update(parameters)  # noqa: SLF001


def _magnitudes(case: Case, double: nn.Module, wide: Sequence[torch.Tensor]) -> tuple[Array | None, ...]:
    """The sums of the magnitudes of the terms of a convolution or a like layer; () for the others.

    They are the outputs of the same layer with the magnitudes of its parameters and inputs. ``double`` is changed; the
    caller does not use it again.
    """
    model = case.model.model
    if not (isinstance(model, LayerModel) and model.layer in SUMS_OF_PRODUCTS):
        return ()
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.abs_()
    return tuple(to_numpy(output) for output in run_module(double, [tensor.abs() for tensor in wide], case.seed))


def floating_as_float64(tensor: torch.Tensor) -> Array:
    """The values as float64 if they are floating, else in their own dtype."""
    array = to_numpy(tensor)
    return array.astype(np.float64) if tensor.is_floating_point() else array
