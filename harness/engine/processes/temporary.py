"""Temporary folders of a command, named after its process, and locked for as long as that lives.

The folders of a killed command are removed by its fork server, which outlives it for a moment. Where there was none, or
the server was killed as well, the next command that makes such a folder removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from harness.errors import HarnessError, UsageError


def temporary_root() -> Path:
    """The folder for temporary files. Raises :class:`HarnessError` where there is none that can be written to."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        tried = f"TMPDIR {where}" if (where := os.environ.get("TMPDIR")) else "/tmp"  # noqa: S108 - where Python looks
        fix = "set TMPDIR to a folder that can be written"
        raise HarnessError(f"no folder for temporary files, neither {tried} nor another usual one; {fix}") from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder that is removed afterwards, however this process ends.

    Raises :class:`HarnessError` where none can be made.
    """
    root = temporary_root()
    _remove_abandoned()
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"harness-{os.getpid()}-", dir=root))
    except OSError as error:
        message = f"{root}: no temporary folder can be made there: {error.strerror}"
        fix = "make room, or set TMPDIR to a folder that can be written"
        raise HarnessError(f"{message}; {fix}") from error
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def folder_becoming(out: Path, replaced: Callable[[Path], bool] = lambda _out: False) -> Iterator[Path]:
    """A temporary folder beside ``out``: renamed to ``out`` at the end of the block, removed if the block raises.

    An existing folder that is not empty is replaced if ``replaced`` says so. Raises :class:`UsageError` if it does not,
    and where none can be made.
    """
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied and not replaced(out):
        raise UsageError(f"-o {out}: already exists; name a new folder or an empty one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UsageError(f"-o {out}: {error.strerror}; name a folder that can be written") from error
    earlier = folder.with_name(f"{folder.name}-earlier")
    try:
        yield folder
        folder.chmod(0o755)
        if occupied:
            out.rename(earlier)
        try:
            folder.rename(out)
        except OSError:
            if occupied:
                earlier.rename(out)
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if out.exists():
            shutil.rmtree(earlier, ignore_errors=True)


def remove_folders_of(pid: int) -> None:
    """Remove the folders of the ended process ``pid``."""
    for folder in Path(tempfile.gettempdir()).glob(f"harness-{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob("harness-*-*"):
        pid = folder.name.split("-")[1]
        # A process of another container is not visible here, but its lock is.
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with suppress(OSError), _locked(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on ``folder``. Raises ``OSError`` where another process has it, or where it cannot be opened."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
