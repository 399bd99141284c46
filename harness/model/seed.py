"""Where random numbers begin."""

from __future__ import annotations

import torch


def seed(number: int) -> None:
    """Let the random numbers of torch begin at ``number``, on every device there is.

    Without an accelerator this does what ``torch.manual_seed`` does and no more: that keeps, for each kind of device
    that is not there, a note of where it was called, which takes a hundred times as long as the rest.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)
