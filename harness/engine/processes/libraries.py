"""What a worker has loaded before its first check: for recorded models all but torch, for specs torch as well.

Getting ready to export takes as long as all the rest together, so it is done only where something is to be exported.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from harness.registry import plugins


@cache
def for_recorded_models() -> None:
    """Load what a recorded model needs. torch need not be there."""
    import harness.check.recorded.packed
    import harness.check.recorded.recording  # noqa: F401 - they are loaded here, and used by the workers

    warnings.simplefilter("always")
    plugins("runtimes")
    plugins("compare.metrics")


@cache
def for_specs() -> None:
    """Load what a case of a spec needs whose exports are kept already."""
    for_recorded_models()
    import torch

    # One thread a worker: the workers share the cores, and a fork must not copy a thread pool.
    torch.set_num_threads(1)
    import harness.check.check  # noqa: F401 - as above

    for kind in ("layers", "exporters", "fixes"):
        plugins(kind)


@cache
def for_exports() -> None:
    """Load what a case of a spec needs, and make its exports quick from the first one on."""
    for_specs()
    from harness.exporters._dynamo_cache import prepare

    prepare()


@contextmanager
def kept() -> Iterator[None]:
    """What the block loads lives as long as the process: the collector walks it neither meanwhile nor ever again.

    Loading makes little garbage, and looking for it takes a fifth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
