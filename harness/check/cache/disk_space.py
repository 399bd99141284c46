"""Is it the disk? A folder that takes no more is no fault of a model, and no verdict may rest on it.

That a library or a module says so is not enough, since it may write anywhere: harness's own folder is asked.
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

from harness.errors import DiskFull, causes

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
OUT_OF_FILES = {errno.EMFILE, errno.ENFILE}
PROBE = 1 << 20
AMPLE = 1 << 30

_ERRNO = vars(OSError)["errno"]
_LARGEST_FILE = resource.getrlimit(resource.RLIMIT_FSIZE)
"""How large a file of harness may be: as this process was started, before a module could have said otherwise."""


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an error of the disk inside the block into :class:`DiskFull`, which names ``folder``."""
    try:
        yield
    except OSError as error:
        raise DiskFull(
            f"{folder}: {error.strerror}; make room or name another folder, and go on with --resume"
        ) from error


def is_about_room(error: BaseException) -> bool:
    """True where ``error`` comes from a disk that takes no more, whosever it is."""
    return _of_room(error) is not None


def stop_if_full(error: BaseException, folder: Path) -> None:
    """Raise :class:`DiskFull` where ``error`` came while a library wrote to ``folder`` and that took no more.

    Libraries do not all say so. Where a user's code ran as well, which may have written elsewhere, see
    :func:`see_room`.
    """
    if (said := _of_room(error)) is not None:
        raise DiskFull(f"{folder}: {said}; make room, then go on with --resume") from error
    see_room(folder)


def see_room(folder: Path, needed: int = PROBE) -> None:
    """Raise :class:`DiskFull` where ``folder`` is full: it has not ``needed`` bytes left, or does not take a little.

    What the code under test did to this process says nothing of the disk: that it may write no files, or has too many
    open, or that the folder was taken away.
    """
    if not folder.is_dir():
        return
    said = None
    try:
        with _files_of_any_size() as may_write:
            if not may_write:
                return
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(PROBE))
    except OSError as error:
        if error.errno not in OUT_OF_FILES:
            said = error.strerror
    if said is None and shutil.disk_usage(folder).free < needed:
        said = os.strerror(errno.ENOSPC)
    if said is not None:
        raise DiskFull(f"{folder}: {said}; make room, then go on with --resume")


def is_ample(folder: Path) -> bool:
    """True where want of room can be ruled out."""
    return shutil.disk_usage(folder).free > AMPLE


def _of_room(error: BaseException) -> str | None:
    """What the system said, where ``error`` comes from a disk that takes no more."""
    found = (_ERRNO.__get__(cause) for cause in causes(error) if issubclass(type(cause), OSError))
    return next((os.strerror(number) for number in found if type(number) is int and number in FULL), None)


@contextmanager
def _files_of_any_size() -> Iterator[bool]:
    """Let files be as large as when this process was started; False where the code under test has forbidden it."""
    now = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, _LARGEST_FILE)
    except (ValueError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, now)
