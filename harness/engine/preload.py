"""Imported once by the fork server: every worker starts with the libraries loaded and warm."""

from __future__ import annotations

import gc
import logging
import warnings

import torch

import harness.verify.check
from harness.exporters.preparation import prepare
from harness.registry import plugins

# One thread a worker: the workers share the cores, and a fork must not copy a thread pool.
torch.set_num_threads(1)
warnings.simplefilter("always")
logging.captureWarnings(capture=False)
for kind in ("layers", "exporters", "fixes", "runtimes"):
    plugins(kind)
prepare()
# What is loaded now lives as long as the worker: the collector need not walk torch's heap again.
gc.collect()
gc.freeze()

__all__ = ["harness"]
