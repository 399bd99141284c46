"""A module that is at hand, and no spec describes: taken to targets in this process."""

from __future__ import annotations

import copy
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from harness.check.cache.artifacts import Artifacts
from harness.check.check import check
from harness.check.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import LONGEST, Clock
from harness.errors import Location, UsageError, read
from harness.model.answer import Reference
from harness.model.build import Subject, answers
from harness.model.reference import refer
from harness.result import Result
from harness.spec.language.case import Case, FactoryModel, TensorSpec, WeightedModel
from harness.spec.language.tolerances import CaseTolerance
from harness.spec.targets import Target

Inputs = Mapping[str, torch.Tensor]
SETTINGS = Settings(timeout=None, latency=False)


class InMemoryCase(PreparedCase):
    """A prepared of a module that is at hand, at inputs that are at hand: nothing is built from a spec."""

    def __init__(self, case: Case, artifacts: Artifacts, module: nn.Module, inputs: Sequence[Inputs]) -> None:
        super().__init__(case, artifacts)
        self._module, self._inputs = module, inputs

    @cached_property
    def subject(self) -> Subject:
        """The module in the mode that it is in, with the first inputs."""
        own = self._inputs[0]
        answer = answers(self._module, list(own.values()), self.case.seed)
        return Subject(self._module, own, len(answer), self.case.mode, self.case.dynamic, answer)

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """Eager torch's answers to each of the inputs."""
        own, *others = self._inputs
        first = refer(self.case, self.subject, own)
        return (first, *(refer(self.case, self.subject, other, at=_shapes(other)) for other in others))


def check_given(
    module: Any,
    inputs: Sequence[Any],
    targets: Sequence[Target],
    tolerance: CaseTolerance,
    dynamic: Mapping[str, Mapping[int, str]],
) -> tuple[Result, ...]:
    """What ``module`` comes to on each of ``targets``, at each of ``inputs``; neither it nor they are changed.

    Raises :class:`UsageError` for a module or inputs that are not ones, before anything is exported.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"module: {type(module).__name__} is not a torch.nn.Module; give the model itself")
    given = [_labelled(each) for each in inputs]
    case = _case(module, given, tolerance, dynamic)
    held = copy.deepcopy(module).cpu()
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch, torch.random.fork_rng(devices=()):
        prepared = InMemoryCase(case, Artifacts(None, Path(scratch)), held, given)
        with _interrupts_told_apart():
            return tuple(_checked(prepared, target, Path(scratch)) for target in targets)


@contextmanager
def _interrupts_told_apart() -> Iterator[None]:
    """Answer a Ctrl-C in Python, so that it is seen where a KeyboardInterrupt is one and not raised by the module."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _checked(prepared: PreparedCase, target: Target, scratch: Path) -> Result:
    """What the check comes to; what libraries warn of stands in its log, whatever this process does with warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = check(prepared, target, SETTINGS, Clock(folder=scratch))
    said = tuple(f"{each.category.__name__}: {read(each.message)}"[:LONGEST] for each in warned)
    return replace(result, log=said, where=None)


def _labelled(inputs: Any) -> Inputs:
    """Copies on the CPU, by label; without labels they are called ``x``, or ``x0``, ``x1``, ... where they are several.

    Raises :class:`UsageError` for what is not tensors.
    """
    if isinstance(inputs, torch.Tensor):
        named: Mapping[Any, Any] = {"x": inputs}
    elif isinstance(inputs, Mapping):
        named = inputs
    elif isinstance(inputs, list | tuple):
        named = {"x" if len(inputs) == 1 else f"x{index}": tensor for index, tensor in enumerate(inputs)}
    else:
        raise UsageError(f"inputs: {type(inputs).__name__} is not a tensor; give one, several by order or by label")
    for label, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise UsageError(f"inputs: {label} is {type(tensor).__name__}, not a tensor; use torch.tensor")
    return {str(label): tensor.detach().clone().cpu() for label, tensor in named.items()}


def _case(
    module: nn.Module, given: Sequence[Inputs], tolerance: CaseTolerance, dynamic: Mapping[str, Mapping[int, str]]
) -> Case:
    """The case that a spec would have described. Its model is a name alone: it is never built from it, nor kept."""
    own = given[0]
    for label in dynamic:
        if label not in own:
            raise UsageError(f"dynamic: no input is called {label!r}; there are {', '.join(own)}")
    if any(other.keys() != own.keys() for other in given):
        raise UsageError(f"also: other inputs than the first; each must have {', '.join(own)}")
    return Case(
        id=type(module).__name__,
        about="",
        model=WeightedModel(FactoryModel(f"{type(module).__module__}:{type(module).__qualname__}")),
        inputs=tuple(TensorSpec(label, _dtype(tensor), tuple(tensor.shape)) for label, tensor in own.items()),
        where=Location(type(module).__module__),
        mode="train" if module.training else "eval",
        dtype=_floating(module, own),
        tolerance=tolerance,
        dynamic=dynamic,
    )


def _floating(module: nn.Module, inputs: Inputs) -> str:
    """The dtype that the module computes in, which tolerances go by: its parameters', else its inputs'."""
    tensors = (*module.parameters(), *inputs.values())
    return next((_dtype(tensor) for tensor in tensors if tensor.is_floating_point()), "float32")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shapes(inputs: Inputs) -> str:
    return ", ".join(f"{label}={list(tensor.shape)}" for label, tensor in inputs.items())
