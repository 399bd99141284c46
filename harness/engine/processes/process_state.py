"""The state of a worker's process that libraries change for everyone, restored after each check and before its stages.

What cannot be restored, such as a function of a library that was replaced, is the reason why a worker retires after a
user's code.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np

Restore = Callable[[], object]
T = TypeVar("T")


class ProcessState:
    """The state of this process at the time of construction, which can be restored.

    ``torch`` is False where it need not be installed.
    """

    def __init__(self, *, torch: bool) -> None:
        if torch:
            _seed_torch()
        self._after_check = [*_python_state(), *(_torch_state() if torch else ())]
        # Restoring NumPy's random numbers takes longer than all the others together.
        self._after_job = partial(np.random.set_state, np.random.get_state())  # noqa: NPY002 - the global generator

    @contextmanager
    def check(self) -> Iterator[None]:
        """Restore after the block what it changed."""
        with warnings.catch_warnings():
            yield
        for restore in self._after_check:
            restore()

    def restore_numpy_random(self) -> None:
        """Restore NumPy's random numbers after a job."""
        self._after_job()


class StateAfterConstruction:
    """The state that constructing a job's module leaves, restored before each export and each load.

    A module may change the state on purpose when it is imported and constructed, such as the default dtype. Only the
    first check constructs it, but all must export, load and run in that state. What running the module changes is
    undone. With ``user_code`` the state includes warning filters and NumPy's random numbers, which no layer changes.
    """

    def __init__(self, *, torch: bool, user_code: bool) -> None:
        self._torch, self._user_code = torch, user_code
        self._restore: list[Restore] | None = None

    def remember(self) -> None:
        """Remember the state of now, unless one is remembered."""
        if self._restore is None:
            self._restore = [*_python_state(), *(_torch_state() if self._torch else ())]
            if self._user_code:
                self._restore += _warning_filters(), partial(np.random.set_state, np.random.get_state())  # noqa: NPY002

    def restore(self) -> None:
        """Restore the state that is remembered; remember that of now where there is none."""
        self.remember()
        for restore in self._restore or ():
            restore()


def _warning_filters() -> Restore:
    before = warnings.filters[:]

    def restore() -> None:
        warnings.filters[:] = before  # type: ignore[index]

    return restore


def _seed_torch() -> None:
    """Begin each process with the same random numbers, so that a stochastic module gives the same row every time."""
    import torch

    torch.default_generator.manual_seed(0)


def _python_state() -> Iterator[Restore]:
    yield partial(vars(sys).update, {name: vars(sys)[name] for name in ("stdin", "stdout", "stderr", "argv")})
    yield partial(sys.path.__setitem__, slice(None), sys.path[:])
    yield partial(sys.setrecursionlimit, sys.getrecursionlimit())
    yield partial(os.umask, _umask())
    yield _environment()
    yield partial(random.setstate, random.getstate())
    yield _restore_if_changed(np.geterr, lambda before: np.seterr(**before))


def _torch_state() -> Iterator[Restore]:
    import torch

    yield _restore_if_changed(torch.get_default_dtype, torch.set_default_dtype)
    yield _restore_if_changed(torch.is_grad_enabled, torch.set_grad_enabled)
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield _restore_if_changed(
        torch.get_deterministic_debug_mode,
        lambda mode: torch.use_deterministic_algorithms(mode != 0, warn_only=mode == 1),
    )
    yield _restore_if_changed(torch.get_num_threads, torch.set_num_threads)
    yield _forget_compiled


def _forget_compiled() -> None:
    """Empty the cache of compiled code, which an export uses too, where torch has loaded its compiler."""
    import torch

    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _restore_if_changed(get: Callable[[], T], set_: Callable[[T], object]) -> Restore:
    """Set only what has changed: setting takes longer than getting.

    Setting determinism needlessly would load torch's compilers, which takes longer than many checks together.
    """
    before = get()

    def restore() -> None:
        if get() != before:
            set_(before)

    return restore


def _environment() -> Restore:
    before = dict(os.environ)

    def restore(_raw: object) -> None:
        os.environ.clear()
        os.environ.update(before)

    return _restore_if_changed(lambda: dict(_raw_environment()), restore)


def _raw_environment() -> dict[object, object]:
    """The environment as Python stores it: decoding it for each check would take longer than writing the result."""
    raw: dict[object, object] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return raw


def _umask() -> int:
    """The umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
