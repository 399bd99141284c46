"""A module once more: exporters, and layers that work in place, change what they are given."""

from __future__ import annotations

import copy
from collections import OrderedDict

from torch import nn


def copied(module: nn.Module) -> nn.Module:
    """``copy.deepcopy(module)``, in half the time.

    Of a layer without hooks eleven parts in twenty are the empty tables that hooks would stand in. Copying those takes
    longer than all the rest, so that the copy is told beforehand what stands for them.
    """
    empty = {
        id(held): OrderedDict[object, object]()
        for part in module.modules()
        for held in vars(part).values()
        if type(held) is OrderedDict and not held
    }
    return copy.deepcopy(module, empty)
