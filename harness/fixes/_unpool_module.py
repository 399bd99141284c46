"""``MaxUnpool2d`` in a form that torch.jit accepts. It is a module, so this is the only fix that imports torch."""

from __future__ import annotations

from typing import List, Optional, Tuple, Union  # noqa: UP035  # TorchScript reads these and no newer spelling

import torch
import torch._C._nn
from torch import Tensor, nn

# The binding that torch.nn.functional calls: traced through it, the output size stays dynamic. The public operator,
# the fallback if a release has moved the binding, would make it constant.
_max_unpool2d = getattr(torch._C._nn, "max_unpool2d", torch.ops.aten.max_unpool2d)  # noqa: SLF001


class TraceableMaxUnpool2d(nn.Module):
    """The same outputs as :class:`torch.nn.MaxUnpool2d` with the same arguments.

    As there, ``output_size`` may be the last two sizes or all of them. Each must be less than one stride away from the
    default, ``(size - 1) * stride - 2 * padding + kernel_size``.
    """

    def __init__(
        self,
        kernel_size: Union[int, Tuple[int, int]],  # noqa: UP006, UP007
        stride: Union[int, Tuple[int, int]],  # noqa: UP006, UP007
        padding: Union[int, Tuple[int, int]],  # noqa: UP006, UP007
    ) -> None:
        super().__init__()
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(stride)
        self.padding = _pair(padding)

    def forward(self, input: Tensor, indices: Tensor, output_size: Optional[List[int]] = None) -> Tensor:  # noqa: A002, UP006, UP045
        """The values of ``input`` at ``indices``, zeros elsewhere."""
        height = (input.size(-2) - 1) * self.stride[0] - 2 * self.padding[0] + self.kernel_size[0]
        width = (input.size(-1) - 1) * self.stride[1] - 2 * self.padding[1] + self.kernel_size[1]
        if output_size is not None:
            new_height = output_size[len(output_size) - 2]
            new_width = output_size[len(output_size) - 1]
            if abs(new_height - height) >= self.stride[0] or abs(new_width - width) >= self.stride[1]:
                raise ValueError(
                    f"invalid output_size {output_size}: each side must be within one stride of {[height, width]}"
                )
            height, width = new_height, new_width
        unpooled: Tensor = _max_unpool2d(input, indices, [height, width])
        return unpooled


def _pair(numbers: Union[int, Tuple[int, int]]) -> Tuple[int, int]:  # noqa: UP006, UP007
    return (numbers, numbers) if isinstance(numbers, int) else (numbers[0], numbers[1])
