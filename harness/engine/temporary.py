"""Folders for what need not outlive a run, named after the process whose run it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards; where this process is killed meanwhile, the fork server removes it."""
    folder = Path(tempfile.mkdtemp(prefix=f"harness-{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_by(pid: int) -> None:
    """Remove the folders of the process ``pid``, which is no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"harness-{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)
