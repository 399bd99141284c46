"""The libraries that a worker loads before its first check: all but torch for recorded models, torch too for specs.

Preparing exporters takes as long as loading everything else, so it is done only where something is to be exported.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from harness.registry import plugins


@cache
def load_for_recorded_models() -> None:
    """Load what a recorded model needs. torch need not be installed."""
    import harness.check.recorded.packed
    import harness.check.recorded.recording  # noqa: F401 - loaded here for the workers

    warnings.simplefilter("always")
    plugins("runtimes")
    plugins("compare.metrics")


@cache
def load_for_specs() -> None:
    """Load what a case of a spec needs whose exports are all in the cache."""
    load_for_recorded_models()
    import torch

    # One thread per worker: the workers share the cores, and a fork must not copy a thread pool.
    torch.set_num_threads(1)
    import harness.check.check  # noqa: F401 - as above

    for kind in ("layers", "exporters", "fixes"):
        plugins(kind)


@cache
def load_for_exports() -> None:
    """Load what a case of a spec needs, and warm up the exporters so that the first export is fast.

    Exports that fail take many workers, so what each of them would work out for a failure is worked out here too.
    """
    load_for_specs()
    from harness.check.cache.key import exporting_code
    from harness.engine.job import installed_versions
    from harness.exporters._dynamo_cache import warm_up
    from harness.reproduction import script_template

    exporting_code()
    installed_versions()
    script_template()
    warm_up()


@contextmanager
def frozen_from_gc() -> Iterator[None]:
    """Keep what the block loads for the life of the process: the garbage collector never walks it.

    The collector is off in the block, and the loaded objects are frozen after it. Loading makes little garbage, and
    looking for it takes a fifth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
