"""A check leaves its process as it found it: what libraries change for all who come after them is put back.

What cannot be put back (a function of a library that was replaced) is why a worker retires after a user's code.
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

PutBack = Callable[[], object]
T = TypeVar("T")


class ProcessState:
    """What a process was like when this was made, so that it can be made so again.

    ``torch`` is False where that need not be there.
    """

    def __init__(self, *, torch: bool) -> None:
        self._of_a_check = [*_of_python(), *(_of_torch() if torch else ())]
        # This takes longer than all the others together.
        self._of_a_job = partial(np.random.set_state, np.random.get_state())  # noqa: NPY002 - the one that all share

    @contextmanager
    def check(self) -> Iterator[None]:
        """Undo afterwards what the block changed."""
        with warnings.catch_warnings():
            yield
        for put_back in self._of_a_check:
            put_back()

    def put_back_numbers(self) -> None:
        """Undo afterwards what a job did to NumPy's random numbers."""
        self._of_a_job()


def _of_python() -> Iterator[PutBack]:
    yield partial(vars(sys).update, {name: vars(sys)[name] for name in ("stdin", "stdout", "stderr", "argv")})
    yield partial(sys.path.__setitem__, slice(None), sys.path[:])
    yield partial(sys.setrecursionlimit, sys.getrecursionlimit())
    yield partial(os.umask, _umask())
    yield _environment()
    yield partial(random.setstate, random.getstate())
    yield _back(np.geterr, lambda found: np.seterr(**found))


def _of_torch() -> Iterator[PutBack]:
    import torch

    yield _back(torch.get_default_dtype, torch.set_default_dtype)
    yield _back(torch.is_grad_enabled, torch.set_grad_enabled)
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield _back(
        torch.get_deterministic_debug_mode,
        lambda found: torch.use_deterministic_algorithms(found != 0, warn_only=found == 1),
    )
    yield _back(torch.get_num_threads, torch.set_num_threads)


def _back(ask: Callable[[], T], tell: Callable[[T], object]) -> PutBack:
    """Tell only what is not as it was: telling takes longer than asking.

    Determinism told needlessly would cost the loading of torch's compilers, which is longer than many checks together.
    """
    found = ask()

    def put_back() -> None:
        if ask() != found:
            tell(found)

    return put_back


def _environment() -> PutBack:
    found = dict(os.environ)

    def put_back(_raw: object) -> None:
        os.environ.clear()
        os.environ.update(found)

    return _back(lambda: dict(_raw_environment()), put_back)


def _raw_environment() -> dict[object, object]:
    """As it is kept: decoding all of it for each check would take longer than writing its result down."""
    held: dict[object, object] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return held


def _umask() -> int:
    """It can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
