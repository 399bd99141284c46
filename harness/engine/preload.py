"""Imported once by the fork server: every worker starts with the libraries loaded and warm."""

from __future__ import annotations

import gc
import os
import warnings

# The libraries chatter while they load; a worker has a file of its own for that, the fork server needs none.
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 1)
os.dup2(_nowhere, 2)

import torch  # noqa: E402

import harness.verify.check  # noqa: E402
from harness.exporters.preparation import prepare  # noqa: E402
from harness.registry import plugins  # noqa: E402

# One thread a worker: the workers share the cores, and a fork must not copy a thread pool.
torch.set_num_threads(1)
warnings.simplefilter("always")
for kind in ("layers", "exporters", "fixes", "runtimes"):
    plugins(kind)
prepare()
# What is loaded now lives as long as the worker: the collector need not walk torch's heap again.
gc.collect()
gc.freeze()

__all__ = ["harness"]
