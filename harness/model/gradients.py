"""Gradients of the sum of the first output, by input label and by parameter name."""

from __future__ import annotations

import copy
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from harness.model.seed import seed as seed_torch
from harness.model.subject import Subject
from harness.model.tensors import to_numpy


def gradients(subject: Subject, seed: int) -> dict[str, NDArray[Any]]:
    """What autograd says on eager torch, for every floating input and parameter; zeros where nothing depends on one."""
    module, inputs = copy.deepcopy(subject.module), copy.deepcopy(dict(subject.inputs))
    wanted = {label: tensor.requires_grad_() for label, tensor in inputs.items() if tensor.is_floating_point()}
    wanted |= {name.removeprefix("layer."): parameter for name, parameter in module.named_parameters()}
    with torch.random.fork_rng(devices=()):
        seed_torch(seed)
        # An in-place layer may not write on a leaf, so it is given a copy that autograd follows.
        answer = module(*(tensor.clone() for tensor in inputs.values()))
    total = pytree.tree_leaves(answer)[0].sum()
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return {name: to_numpy(gradient) for name, gradient in zip(wanted, found, strict=True)}
