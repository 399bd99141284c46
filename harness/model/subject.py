"""A built case: what every exporter is given, and what eager torch answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from harness.model.copies import copied
from harness.spec.case import Mode


@dataclass(frozen=True, eq=False)
class Subject:
    """A module in its asked mode, with example inputs by label.

    ``module.forward`` takes the inputs by order and returns a tensor or a tuple of tensors,
    which are called ``output_0``, ``output_1``, ... in every artifact. ``dynamic`` maps a
    label to its open axes and their names. ``answer`` is what eager torch gives for the inputs, where it was
    asked already. Two subjects are equal only where they are the same one.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: int
    mode: Mode = "eval"
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    answer: Sequence[torch.Tensor] | None = None

    @property
    def output_names(self) -> list[str]:
        """``output_0`` and so on: the names of the outputs in every artifact."""
        return [f"output_{index}" for index in range(self.outputs)]

    def fresh(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """Copies of the module and its inputs, since exporters and in-place layers change what they are given."""
        return copied(self.module), tuple(
            tensor.detach().clone(memory_format=torch.preserve_format) for tensor in self.inputs.values()
        )
