"""Calls of eager torch: one call of a module, the first of a copy, and whether a second one gives something else.

A call leaves torch's random state as it was, records no gradients, and starts from a seed. A large module runs in
several threads. Their number depends on the machine alone, and not on what else the run does.
"""

from __future__ import annotations

import pickle
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import parameter
from torch.utils import _pytree as pytree

from harness.environment import usable_cpus
from harness.errors import Unsupported, UsageError
from harness.model.tensors import copy_module, copy_tensor
from harness.model.user_modules import type_name

SEVERAL_THREADS_BYTES = 64 << 20
"""From this size on, a module runs in several threads. The workers of a run share the cores, and small modules are
better run side by side."""
MAX_THREADS = 4

_most_threads: ContextVar[int] = ContextVar("_most_threads", default=MAX_THREADS)


@dataclass(eq=False)
class FirstCall:
    """The first call of a copy of a module.

    ``outputs`` are the tensors in what it returned, and ``paths`` where they are (:func:`paths_of`). ``called`` is the
    copy; None once it was called again, because an exporter that reads weights copies those that another module shares.
    ``may_be_random`` is False only if the call drew nothing from the random generators of torch, NumPy and Python.
    """

    outputs: Sequence[torch.Tensor]
    paths: tuple[str, ...]
    called: nn.Module | None
    may_be_random: bool = True


@dataclass(frozen=True, eq=False)
class Repetition:
    """What further calls with the same inputs show.

    ``stochastic`` is True if another seed gives other outputs. ``second_call`` has the outputs of a second call of the
    same module, if they differ from the first: it keeps state.
    """

    stochastic: bool
    second_call: Sequence[torch.Tensor] | None = None


def eager_outputs(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Eager torch's output tensors, flattened. The module, the inputs and torch's random state stay unchanged."""
    return run_module(copy_module(module), _copies(inputs), seed)


def run_module(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """As :func:`eager_outputs`, without copies: the call may change the module and the inputs."""
    with _for_one_call(module, seed):
        return _tensors_in(module(*inputs))


def first_call(
    module: nn.Module, inputs: Sequence[torch.Tensor], seed: int, *, watch_random: bool = False
) -> FirstCall:
    """Call a copy of ``module``. The module, the inputs and torch's random state stay unchanged.

    With ``watch_random``, the random generators are compared with what they were before the call. Raises
    :class:`UsageError` if there is no tensor in what it returns, and :class:`Unsupported` for complex numbers.
    """
    called, copies = copy_module(module), _copies(inputs)
    with _for_one_call(called, seed):
        before = _random_state() if watch_random else None
        returned: object = called(*copies)
        may_be_random = before is None or before != _random_state()
    tensors = _tensors_in(returned)
    _require_comparable(returned, tensors)
    # Copies: an output may be a buffer of the module, which a second call changes.
    return FirstCall(_copies(tensors), paths_of(returned), called, may_be_random)


def _require_comparable(returned: object, tensors: Sequence[torch.Tensor]) -> None:
    """Check what a module returned.

    Raises :class:`UsageError` if there is no tensor in it, and :class:`Unsupported` for complex numbers. Warns of an
    object beside tensors that may hold further ones.
    """
    leaves = {type(leaf): leaf for leaf in pytree.tree_leaves(returned) if not isinstance(leaf, torch.Tensor)}
    plain = {"builtins", "numpy", "torch"}  # numbers, texts, dtypes and devices
    opaque = [type_name(kind) for kind in leaves if kind.__module__ not in plain]
    known = "a tensor, or a tuple, list, dict or named tuple of tensors"
    if not tensors:
        kinds = ", ".join(opaque or [kind.__name__ for kind in leaves]) or "nothing"
        registered = "; or register the class with torch.utils._pytree" if opaque else ""
        raise UsageError(f"forward returns {kinds}, in which torch finds no tensor; return {known}{registered}")
    if opaque:
        warnings.warn(
            f"forward returns {', '.join(opaque)} beside tensors, in which torch finds none, so nothing in it is "
            f"compared; return {known}",
            stacklevel=1,
        )
    for index, tensor in enumerate(tensors):
        if tensor.is_complex():
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise Unsupported(
                f"output_{index} is {dtype}, and complex numbers are not compared; return torch.view_as_real(...) of it"
            )


def repeated(
    module: nn.Module, inputs: Sequence[torch.Tensor], seed: int, first: FirstCall, *, may_keep_state: bool
) -> Repetition:
    """Find out whether ``module`` draws random numbers, and with ``may_keep_state`` whether it keeps state.

    One further call can show that it does neither: a second call of the copy that gave ``first``, with another seed,
    has the same outputs, and the first call drew no random numbers. Otherwise there is one call of a new copy with
    another seed, and a second call of that copy.
    """
    called, first.called = first.called, None
    if may_keep_state and not first.may_be_random and called is not None:
        again = run_module(called, _copies(inputs), seed + 1)
        if have_same_values(first.outputs, again):
            return Repetition(stochastic=False)
    del called
    copied = copy_module(module)
    if not have_same_values(first.outputs, run_module(copied, _copies(inputs), seed + 1)):
        return Repetition(stochastic=True)
    if not may_keep_state:  # torch's own layers keep no state that reaches their outputs
        return Repetition(stochastic=False)
    second = run_module(copied, _copies(inputs), seed)
    return Repetition(stochastic=False, second_call=None if have_same_values(first.outputs, second) else second)


def repeatable_call(module: Callable[..., object], inputs: Sequence[torch.Tensor]) -> tuple[Callable[[], object], bool]:
    """A call of ``module`` on ``inputs`` for timing, without autograd; True if it copies the inputs at each call.

    The call works on a copy of the module, so that the original's running statistics stay as they are. No tensor of
    the copy requires a gradient, so that autograd records nothing; entering ``torch.no_grad`` at each call would be
    timed as well, and takes as long as a small layer.

    A layer that works in place changes its inputs: the second call would see other numbers than the first, and
    denormals after a few. Such a call copies its inputs first, and the copy is part of the timing. To find out, the
    module is called once, on copies.
    """
    originals = tuple(tensor.detach() for tensor in inputs)
    function = _without_gradients(module) if isinstance(module, nn.Module) else module
    copies = tuple(tensor.clone() for tensor in originals)
    function(*copies)
    if all(_same_bits(before, after) for before, after in zip(originals, copies, strict=True)):
        return lambda: function(*originals), False
    return lambda: function(*(tensor.clone() for tensor in originals)), True


def _without_gradients(module: nn.Module) -> nn.Module:
    """A copy that requires no gradients; the module itself if it holds no tensors (a frozen one may refuse a copy)."""
    if not module.state_dict():
        return module
    with torch.no_grad():  # else the copy of a script module's parameter would be the result of a computation
        duplicate = copy_module(module)
    for each in duplicate.parameters():  # TorchScript has no requires_grad_ of the module
        each.requires_grad_(False)
    return duplicate


def _same_bits(before: torch.Tensor, after: torch.Tensor) -> bool:
    """True if the bits are equal, so that a NaN equals itself and the sign of zero counts."""
    if before.is_complex():
        before, after = torch.view_as_real(before), torch.view_as_real(after)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[before.element_size()]
    return torch.equal(before.contiguous().view(width), after.contiguous().view(width))


def paths_of(returned: object) -> tuple[str, ...]:
    """The path of each tensor in what a module returned, such as ``past.0.key``.

    Empty if nothing in it has a name: a tensor, or nested tuples and lists.
    """
    leaves, _ = pytree.tree_flatten_with_path(returned)
    keys = [path for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    if all(isinstance(key, pytree.SequenceKey) for path in keys for key in path):
        return ()
    return tuple(".".join(re.sub(r"[^\w-]+", "", str(key)) for key in path) for path in keys)


def have_same_values(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    """True if two calls returned the same outputs; NaN equals NaN, and -0.0 equals 0.0."""
    return len(first) == len(second) and all(map(_have_same_values, first, second))


def _have_same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.is_floating_point():  # float8 has no kernel for nan_to_num
        one, other = one.double(), other.double()
    return torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def seed_torch(number: int) -> None:
    """Seed torch's random number generators on every available device with ``number``.

    Without an accelerator only the CPU's generator is seeded. ``torch.manual_seed`` would also record its call stack
    for each kind of device that is missing, which takes a hundred times as long as the rest.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


def size_in_bytes(module: nn.Module) -> int:
    """The bytes of the parameters and buffers, each counted once; a lazy parameter without a shape counts 0."""
    unique = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in unique if not parameter.is_lazy(tensor))


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Large modules run in one thread too: several may add up in another order at each call."""
    token = _most_threads.set(1)
    try:
        yield
    finally:
        _most_threads.reset(token)


def runs_in_several_threads(module: nn.Module) -> bool:
    """True if a call of ``module`` is given more threads than torch has now."""
    return torch.get_num_threads() < _threads() and size_in_bytes(module) >= SEVERAL_THREADS_BYTES


def _threads() -> int:
    return min(_most_threads.get(), usable_cpus())


@contextmanager
def _for_one_call(module: nn.Module, seed: int) -> Iterator[None]:
    """Torch's state for one call of ``module``: seeded, without gradients, in as many threads as its size allows."""
    before = torch.get_num_threads()
    several = runs_in_several_threads(module)
    if several:
        torch.set_num_threads(_threads())
    try:
        with torch.random.fork_rng(devices=()), torch.no_grad():
            seed_torch(seed)
            yield
    finally:
        if several:
            torch.set_num_threads(before)


def _random_state() -> object | None:
    """The state of the random generators of torch, NumPy and Python; each time another if there is an accelerator."""
    if torch.accelerator.is_available():  # it has a generator of its own, whose state takes long to read
        return object()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global generator
    return pickle.dumps((torch.default_generator.get_state().numpy(), numpy_state, random.getstate()))


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [copy_tensor(tensor) for tensor in tensors]


def _tensors_in(returned: object) -> list[torch.Tensor]:
    return [leaf.detach() for leaf in pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
