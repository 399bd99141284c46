"""What a worker has loaded before its first check: with recorded models all but torch, with specs torch as well."""

from __future__ import annotations

import gc
import warnings
from functools import cache

from harness.registry import plugins


@cache
def for_recorded_models() -> None:
    """Load what a recorded model needs. torch need not be there."""
    import harness.verify.recorded  # noqa: F401 - it is loaded here, and used by the workers

    warnings.simplefilter("always")
    plugins("runtimes")
    plugins("compare.metrics")


@cache
def for_specs() -> None:
    """Load what a case of a spec needs, and make exporting quick."""
    for_recorded_models()
    import torch

    from harness.exporters.preparation import prepare

    # One thread a worker: the workers share the cores, and a fork must not copy a thread pool.
    torch.set_num_threads(1)
    import harness.verify.check  # noqa: F401 - as above

    for kind in ("layers", "exporters", "fixes"):
        plugins(kind)
    prepare()


def keep() -> None:
    """What is loaded now lives as long as the process: the collector need not walk torch's heap again."""
    gc.collect()
    gc.freeze()
