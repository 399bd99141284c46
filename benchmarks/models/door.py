"""Modules that are right in eager torch and have a fault when they are exported, checked by ``harness run``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.models import nets
from benchmarks.models.faults import Fault, faults
from harness.spec.language.case import Case, FactoryModel

OF_EACH_KIND = 1
NETS = ("resnet18", "vit", "swin", "bert", "gpt2", "llama")
TARGETS = ("trace/torch-cpu", "onnx-torchscript/ort-cpu")


class WrongWhenExported(nn.Module):
    """Calls ``right``, but ``wrong`` while it is traced or exported. ``labels`` are the names of the inputs."""

    def __init__(self, right: nn.Module, wrong: nn.Module, labels: Sequence[str]) -> None:
        super().__init__()
        self.right, self.wrong, self.labels = right, wrong, tuple(labels)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """As the module's own forward."""
        exported = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined,no-untyped-call]
        module = self.wrong if exported else self.right
        return module(**dict(zip(self.labels, inputs, strict=True)))


def wrong_when_exported(factory: str, number: int, labels: list[str], args: dict[str, Any]) -> nn.Module:
    """The module of a factory of :mod:`benchmarks.models.nets`, with its fault ``number`` when it is exported."""
    right = getattr(nets, factory)(**args).eval()
    wrong = copy.deepcopy(right)
    door_faults(right)[number].plant(wrong)
    return WrongWhenExported(right, wrong, labels)


def door_faults(module: nn.Module) -> tuple[Fault, ...]:
    """The faults that are planted in ``module`` for a whole check."""
    return faults(module, OF_EACH_KIND)


def spec_of(case: Case, numbers: Sequence[int]) -> dict[str, Any]:
    """A spec, as data, with a case for each fault of ``case`` by its number."""
    model = case.model.model
    assert isinstance(model, FactoryModel)
    inputs = {
        each.label: {"shape": list(each.shape), "dtype": each.dtype, "fill": _fill(each.fill)} for each in case.inputs
    }
    args = {
        "factory": model.factory.partition(":")[2],
        "labels": list(inputs),
        "args": dict(model.args),
    }
    return {
        "harness": 1,
        "factory": f"{__name__}:wrong_when_exported",
        "defaults": {"inputs": inputs, "seed": case.seed, "dtype": case.dtype},
        "cases": [{"name": f"fault-{number}", "args": {**args, "number": number}} for number in numbers],
    }


def _fill(fill: Any) -> Any:
    return fill.kind if not fill.parameters else {fill.kind: list(fill.parameters)}
