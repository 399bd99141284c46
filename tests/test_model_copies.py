"""A copied module is the module as ``copy.deepcopy`` gives it, hooks and all."""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import nn

from harness.model.build import copied


class Hooked(nn.Module):
    """With a hook, a shared layer, an empty table of its own in two places, and one that is not empty."""

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Linear = nn.Linear(2, 2)
        self.second = self.first
        self.seen = self.seen_too = OrderedDict[str, int]()
        self.known = OrderedDict(a=1)
        self.first.register_forward_hook(lambda _module, _given, answer: answer + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen["calls"] = self.seen.get("calls", 0) + 1
        answer: torch.Tensor = self.second(self.first(x))
        return answer


def test_a_copy_answers_alike_and_shares_nothing_that_changes() -> None:
    module, x = Hooked(), torch.ones(1, 2)
    copy_of = copied(module)
    assert isinstance(copy_of, Hooked)
    assert torch.equal(copy_of(x), copy.deepcopy(module)(x))
    assert not module.seen
    assert copy_of.seen == {"calls": 1}
    copy_of.first.register_forward_hook(lambda _module, _given, answer: answer * 0)
    with torch.no_grad():
        copy_of.first.weight.zero_()
    assert torch.equal(module(x), copy.deepcopy(module)(x))
    assert len(module.first._forward_hooks) == 1


def test_what_was_one_is_one_and_what_was_two_is_two() -> None:
    copy_of = copied(Hooked())
    assert isinstance(copy_of, Hooked)
    assert copy_of.first is copy_of.second
    assert copy_of.seen is copy_of.seen_too
    assert copy_of.known == {"a": 1}
    tables = [id(held) for held in vars(copy_of).values() if isinstance(held, OrderedDict)]
    assert len(set(tables)) == len(tables) - 1
