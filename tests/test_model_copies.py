"""``copy_module`` gives the same copy as ``copy.deepcopy``, hooks included."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

from harness.model.tensors import copy_module


class Hooked(nn.Module):
    """A module with a hook, a shared layer, a shared empty table, and a table that is not empty."""

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Linear = nn.Linear(2, 2)
        self.second = self.first
        self.calls = self.calls_again = OrderedDict[str, int]()
        self.table = OrderedDict(a=1)
        self.first.register_forward_hook(lambda _module, _inputs, output: output + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls["calls"] = self.calls.get("calls", 0) + 1
        y: torch.Tensor = self.second(self.first(x))
        return y


def test_a_copy_has_the_same_outputs_and_shares_no_state() -> None:
    module, x = Hooked(), torch.ones(1, 2)
    duplicate = copy_module(module)
    assert isinstance(duplicate, Hooked)
    assert torch.equal(duplicate(x), copy.deepcopy(module)(x))
    assert not module.calls
    assert duplicate.calls == {"calls": 1}
    duplicate.first.register_forward_hook(lambda _module, _inputs, output: output * 0)
    with torch.no_grad():
        duplicate.first.weight.zero_()
    assert torch.equal(module(x), copy.deepcopy(module)(x))
    assert len(module.first._forward_hooks) == 1


def test_shared_objects_stay_shared_and_separate_ones_separate() -> None:
    duplicate = copy_module(Hooked())
    assert isinstance(duplicate, Hooked)
    assert duplicate.first is duplicate.second
    assert duplicate.calls is duplicate.calls_again
    assert duplicate.table == {"a": 1}
    tables = [id(value) for value in vars(duplicate).values() if isinstance(value, OrderedDict)]
    assert len(set(tables)) == len(tables) - 1
