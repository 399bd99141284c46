"""The weights of a module by the names that a spec uses: single ones, or all of them from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import parameter
from torch.utils import _pytree as pytree

from harness.errors import UsageError
from harness.model.tensors import as_tensor

Array = NDArray[Any]

WRAPPERS = ("layer.", "nested.", "nested.layer.")
"""What harness may put before the names of a module's parameters."""


class HasShape(Protocol):
    """A tensor whose values need not be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


def tensors_of_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of ``module.state_dict()``. Quantized layers keep some of theirs in tuples, beside dtypes."""
    leaves = {
        name if leaf is value else f"{name}.{index}": leaf
        for name, value in module.state_dict().items()
        for index, leaf in enumerate(pytree.tree_leaves(value))
    }
    return {name: leaf for name, leaf in leaves.items() if isinstance(leaf, torch.Tensor)}


def require_all_weights(module: nn.Module, weights: Mapping[str, HasShape], file: str) -> None:
    """Check that ``weights``, of ``file``, are every parameter and buffer of ``module`` in its shape, and no others.

    A tensor that has several names may come under one of them: safetensors stores such a tensor once.

    Raises :class:`UsageError` in one line that lists all differences, or that names the part of the file that fits.
    """
    part = part_that_fits(module, weights, file)
    if part is not None:
        raise UsageError(
            f"weights: {file} holds more than the model's weights: they are its part {part}; write "
            f"{{file: {file}, key: {part}}}"
        )


def part_that_fits(module: nn.Module, weights: Mapping[str, HasShape], file: str) -> str | None:
    """The one part of a checkpoint that is all weights of ``module``; None if all of ``weights`` are.

    A part is what the names before a dot have in common, such as ``model`` or ``state_dict.net``. Checkpoints hold the
    weights beside the optimizer's state, and wrappers put names before them: ``module`` (DataParallel), ``_orig_mod``
    (``torch.compile``). Raises :class:`UsageError` with all differences if no part fits, or with those that fit.
    """
    differences = _differences(module, weights)
    if not differences:
        return None
    expected = {plain_name(name) for name in tensors_of_state(module)}
    parts: dict[str, dict[str, HasShape]] = {}
    for name, tensor in weights.items():
        words = name.split(".")
        for at in range(1, len(words)):
            parts.setdefault(".".join(words[:at]), {})[".".join(words[at:])] = tensor
    fitting = [
        part for part, found in parts.items() if not expected.isdisjoint(found) and not _differences(module, found)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(fitting)
        raise UsageError(f"weights: {file} holds the model's weights several times: {names}; save one of them alone")
    raise UsageError(f"weights: {file} does not fit the model; {'; '.join(differences)}; save its state_dict()")


def _differences(module: nn.Module, weights: Mapping[str, HasShape]) -> list[str]:
    """How ``weights`` differ from all weights of ``module``: by missing names, unknown ones, and shapes."""
    state = tensors_of_state(module)
    expected = {_spec_name(name, weights): tensor for name, tensor in state.items()}
    tied = {_spec_name(name, weights): id(tensor) for name, tensor in named_tensors(module).items()}
    given = {tied[name] for name in weights if name in tied}
    missing = [name for name in expected if name not in weights and tied.get(name) not in given]
    extra = [name for name in weights if name not in expected]
    wrong = [
        f"{name} {list(spec.shape)} for {list(expected[name].shape)}"
        for name, spec in weights.items()
        if name in expected and not parameter.is_lazy(expected[name]) and tuple(expected[name].shape) != spec.shape
    ]
    parts = (("missing", missing), ("unknown to the model", extra), ("of another shape", wrong))
    return [f"{what}: {', '.join(names)}" for what, names in parts if names]


def _spec_name(name: str, weights: Mapping[str, Any]) -> str:
    """The name that a spec uses for the parameter ``name`` of a module that may be wrapped by harness."""
    return name if name in weights else plain_name(name)


def plain_name(name: str) -> str:
    """The name of a parameter without what harness wraps the module in."""
    return name.removeprefix("nested.").removeprefix("layer.")


def load_weights(module: nn.Module, weights: Iterable[tuple[str, Array]]) -> None:
    """Set parameters and buffers by name, in place, one after another.

    Raises :class:`UsageError` if the module has no parameter or buffer of that name, or it has another shape.
    """
    for name, values in weights:
        tensor = find_parameter(module, name)
        if tensor is None:
            names = ", ".join(name for name, _ in module.named_parameters()) or "none"
            raise UsageError(f"weights: the model has no parameter {name!r}; it has {names}")
        if tuple(tensor.shape) != values.shape:
            raise UsageError(
                f"weights: {name} has shape {tuple(tensor.shape)}, but its values have shape {values.shape}"
            )
        with torch.no_grad():
            tensor.copy_(as_tensor(values))


def find_parameter(module: nn.Module, name: str) -> torch.Tensor | None:
    """The parameter or buffer ``name``, also inside a module of :func:`build_bound_layer`; None if there is none."""
    tensors = named_tensors(module)
    return next((tensors[prefix + name] for prefix in ("", *WRAPPERS) if prefix + name in tensors), None)


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer under every name that it has: tied ones, and those of a module in two places, too."""
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
