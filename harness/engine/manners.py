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

import numpy as np

PutBack = Callable[[], object]


class Manners:
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
    yield partial(_same_environment, dict(os.environ), dict(_raw_environment()))
    yield partial(random.setstate, random.getstate())
    yield partial(np.seterr, **np.geterr())


def _of_torch() -> Iterator[PutBack]:
    import torch

    yield partial(torch.set_default_dtype, torch.get_default_dtype())
    yield partial(torch.set_grad_enabled, torch.is_grad_enabled())
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield partial(_same_determinism, torch.get_deterministic_debug_mode())
    yield partial(torch.set_num_threads, torch.get_num_threads())


def _same_determinism(found: int) -> None:
    import torch

    # Saying so needlessly would cost the loading of torch's compilers, which is longer than many checks together.
    if torch.get_deterministic_debug_mode() != found:
        torch.use_deterministic_algorithms(found != 0, warn_only=found == 1)


def _same_environment(found: dict[str, str], raw: dict[object, object]) -> None:
    if _raw_environment() != raw:
        os.environ.clear()
        os.environ.update(found)


def _raw_environment() -> dict[object, object]:
    """As it is kept: decoding all of it for each check would take longer than writing its result down."""
    held: dict[object, object] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return held


def _umask() -> int:
    """It can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
