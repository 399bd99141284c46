"""Check a module in memory, without a spec, on targets in this process."""

from __future__ import annotations

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

from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.judging.steps import inputs_in_a_row
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import MAX_MESSAGE_LENGTH, Clock
from harness.compare.inconclusive import TRAINING_MODE
from harness.errors import Location, UsageError, bounded_text
from harness.exporters._torch_state import no_graphs_printed
from harness.model.answer import Reference, with_flips
from harness.model.binding import NestedTensors, TakesFlatInputs, bind_labels, nested_tensors, with_nulls
from harness.model.build import Subject, called_subject, initialise_lazy, structure_of
from harness.model.reference import compute_reference
from harness.model.state import references_of
from harness.model.tensors import copied_to_cpu
from harness.model.user_modules import without_compilation
from harness.result import Result
from harness.spec.language.case import Case, FactoryModel, TensorSpec, WeightedModel
from harness.spec.language.inputs.structure import null_labels
from harness.spec.language.tolerances import CaseTolerance
from harness.spec.targets import Target

Inputs = Mapping[str, torch.Tensor]
SETTINGS = Settings(timeout=None, latency=False)


def check_module(
    module: Any,
    inputs: Sequence[Any],
    targets: Sequence[Target],
    tolerance: CaseTolerance,
    dynamic: Mapping[str, Mapping[int, str]],
    *,
    layers: bool = False,
) -> tuple[Result, ...]:
    """The result of ``module`` on each of ``targets``, at all of ``inputs``. The module and the inputs do not change.

    Raises :class:`UsageError` before anything is exported if ``module`` is not an nn.Module, or an input not a tensor
    or array.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"module: {type(module).__name__} is not a torch.nn.Module; give the model itself")
    read = [nested_tensors(each) for each in inputs]
    all_inputs = [each.tensors for each in read]
    module = without_compilation(copied_to_cpu(module, "module"))
    case = replace(_case(module, all_inputs, tolerance, dynamic), structure=read[0].nested)
    module = _wrapped(module, read[0])
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch, torch.random.fork_rng(devices=()):
        prepared = InMemoryCase(case, ArtifactCache(None, Path(scratch)), module, all_inputs)
        with _python_ctrl_c_handler():
            settings = replace(SETTINGS, layers=layers)
            return tuple(_check(prepared, target, Path(scratch), settings) for target in targets)


class InMemoryCase(PreparedCase):
    """A prepared case of a module and inputs in memory. Nothing is built from a spec."""

    def __init__(self, case: Case, artifacts: ArtifactCache, module: nn.Module, inputs: Sequence[Inputs]) -> None:
        super().__init__(case, artifacts)
        self._module, self._inputs = module, inputs

    @cached_property
    def subject(self) -> Subject:
        """The module in its current mode, with the first inputs."""
        initialise_lazy(self._module, list(self._inputs[0].values()), self.case.seed)
        return called_subject(self._module, self._inputs[0], self.case, structure_of(self.case))

    def _module_and_inputs(self) -> tuple[nn.Module, Inputs]:
        return self._module, self._inputs[0]

    @cached_property
    def references(self) -> tuple[Reference, ...]:
        """The reference answers to each of the inputs."""
        first, *others = self._inputs
        sets = [(first, None), *((each, _describe_shapes(each)) for each in others)]

        def compute(repeat: bool) -> list[Reference]:
            return [compute_reference(self.case, self.subject, each, at, repeat=repeat) for each, at in sets]

        return with_flips(references_of(self.case, self.subject.module, compute, inputs_in_a_row))

    @property
    def random_weights(self) -> bool:
        """False: the module in memory is the one to compare with."""
        return False

    @property
    def training(self) -> str | None:
        """What to say first, if the module is in training mode and that matters."""
        if self.case.mode == "train":
            return TRAINING_MODE if self.training_matters else None
        return super().training


def _check(prepared: InMemoryCase, target: Target, scratch: Path, settings: Settings) -> Result:
    """The result of one check. The libraries' warnings are its log, whatever filters this process has."""
    with warnings.catch_warnings(record=True) as caught, no_graphs_printed():
        warnings.simplefilter("always")
        result = check(prepared, target, settings, Clock(folder=scratch))
    log = (f"{warning.category.__name__}: {bounded_text(warning.message)}" for warning in caught)
    return replace(result, log=tuple(line[:MAX_MESSAGE_LENGTH] for line in log), where=None)


@contextmanager
def _python_ctrl_c_handler() -> Iterator[None]:
    """Handle Ctrl-C in a Python function, so that it can be told from a KeyboardInterrupt that the module raises."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _wrapped(module: nn.Module, inputs: NestedTensors) -> nn.Module:
    """``module``, taking the flat tensors of ``inputs`` by position. Raises :class:`UsageError` for wrong labels."""
    labels, nulls = list(inputs.structure), null_labels(inputs.structure)
    bound = bind_labels(module, labels, None, nulls) if inputs.named else module
    if not inputs.named and None in inputs.structure.values():
        bound = with_nulls(module, labels, nulls)
    nested = inputs.nested
    wrapped = bound if nested is None else TakesFlatInputs(bound, nested)
    for each in (bound, wrapped):
        each.training = module.training  # the modes of the parts stay as they are
    return wrapped


def _case(
    module: nn.Module, all_inputs: Sequence[Inputs], tolerance: CaseTolerance, dynamic: Mapping[str, Mapping[int, str]]
) -> Case:
    """The case that a spec would describe. Its model is only a name: nothing is built from it or cached under it."""
    inputs = all_inputs[0]
    labels = ", ".join(inputs)
    for label in dynamic:
        if label not in inputs:
            raise UsageError(f"dynamic: no input is named {label!r}; the inputs are {labels}")
    if any(each.keys() != inputs.keys() for each in all_inputs):
        raise UsageError(f"also: the inputs differ from the first ones; each must have {labels}")
    return Case(
        id=type(module).__name__,
        about="",
        model=WeightedModel(FactoryModel(f"{type(module).__module__}:{type(module).__qualname__}")),
        inputs=tuple(TensorSpec(label, _dtype(tensor), tuple(tensor.shape)) for label, tensor in inputs.items()),
        where=Location(type(module).__module__),
        mode="train" if module.training else "eval",
        dtype=_floating_dtype(module, inputs),
        tolerance=tolerance,
        dynamic=dynamic,
    )


def _floating_dtype(module: nn.Module, inputs: Inputs) -> str:
    """The dtype the module computes in, which selects the tolerance: that of its parameters, else of its inputs."""
    tensors = (*module.parameters(), *inputs.values())
    return next((_dtype(tensor) for tensor in tensors if tensor.is_floating_point()), "float32")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _describe_shapes(inputs: Inputs) -> str:
    return ", ".join(f"{label}={list(tensor.shape)}" for label, tensor in inputs.items())
