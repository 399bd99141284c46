"""Tells a full disk from a failure of the model, so that no result rests on a full disk.

The error that a library or a module raises is not enough, since it may write anywhere: harness's own folder is tested.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import DiskFull, cause_chain

PROBE_BYTES = 1 << 20
AMPLE_BYTES = 1 << 30

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_TOO_MANY_OPEN_FILES = {errno.EMFILE, errno.ENFILE}
_ERRNO = vars(OSError)["errno"]
_FILE_SIZE_LIMIT = resource.getrlimit(resource.RLIMIT_FSIZE)
"""The limit of a file's size when this process started, before any module could change it."""


@contextmanager
def disk_errors_as_disk_full(folder: Path) -> Iterator[None]:
    """Raise :class:`DiskFull`, which names ``folder``, for an ``OSError`` inside the block."""
    try:
        yield
    except OSError as error:
        raise DiskFull(
            f"{folder}: {error.strerror}; make room or name another folder, then continue with --resume"
        ) from error


def is_disk_error(error: BaseException) -> bool:
    """True if ``error`` or one of its causes reports a full or failing disk, whichever disk that is."""
    return _disk_error_text(error) is not None


def raise_if_disk_full(error: BaseException, folder: Path) -> None:
    """Raise :class:`DiskFull` if ``error`` was raised because ``folder``, to which a library wrote, is full.

    Not every library reports it, so ``folder`` is tested too. Use :func:`check_free_space` alone if a user's code ran:
    it may have written elsewhere.
    """
    if (text := _disk_error_text(error)) is not None:
        raise DiskFull(_message(folder, text)) from error
    check_free_space(folder)


def check_free_space(folder: Path, needed: int = PROBE_BYTES) -> None:
    """Raise :class:`DiskFull` if ``folder`` has less than ``needed`` bytes free, or a small file cannot be written.

    Limits that the code under test set on this process do not count: no permission to write files, too many open files,
    or a folder that was removed.
    """
    if not folder.is_dir():
        return
    text = None
    try:
        with _original_file_size_limit() as may_write:
            if not may_write:
                return
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        if error.errno not in _TOO_MANY_OPEN_FILES:
            text = error.strerror
    if text is None and shutil.disk_usage(folder).free < needed:
        text = os.strerror(errno.ENOSPC)
    if text is not None:
        raise DiskFull(_message(folder, text))


def has_ample_space(folder: Path) -> bool:
    """True if ``folder`` has so much free space that a failure cannot come from a full disk."""
    return shutil.disk_usage(folder).free > AMPLE_BYTES


def _message(folder: Path, text: str | None) -> str:
    return f"{folder}: {text}; make room, then continue with --resume"


def _disk_error_text(error: BaseException) -> str | None:
    """The system's text if ``error`` comes from a full or failing disk; else None."""
    numbers = (_ERRNO.__get__(cause) for cause in cause_chain(error) if issubclass(type(cause), OSError))
    return next((os.strerror(number) for number in numbers if type(number) is int and number in _DISK_ERRORS), None)


@contextmanager
def _original_file_size_limit() -> Iterator[bool]:
    """Restore the file size limit inside the block. Gives False if the code under test made that impossible."""
    current = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, _FILE_SIZE_LIMIT)
    except (ValueError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, current)
