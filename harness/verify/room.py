"""Is it the disk? A folder that takes no more is no fault of a model, and no verdict may rest on it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import NoRoom
from harness.verify.causes import causes

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
PROBE = 1 << 20
AMPLE = 1 << 30


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an error of the disk inside the block into :class:`NoRoom`, which names ``folder``."""
    try:
        yield
    except OSError as error:
        raise NoRoom(
            f"{folder}: {error.strerror}; make room or name another folder, and go on with --resume"
        ) from error


def full(error: BaseException) -> str | None:
    """What the system said, where ``error`` comes from a disk that takes no more."""
    found = (cause for cause in causes(error) if isinstance(cause, OSError) and cause.errno in FULL)
    return next((str(cause.strerror) for cause in found), None)


def stop_if_full(error: BaseException, folder: Path) -> None:
    """Raise :class:`NoRoom` where ``error`` came while ``folder`` took no more: libraries do not all say so."""
    said = full(error)
    if said is not None:
        raise NoRoom(f"{folder}: {said}; make room, then go on with --resume") from error
    see_room(folder)


def see_room(folder: Path) -> None:
    """Raise :class:`NoRoom` where ``folder`` does not even take a little."""
    with writing_to(folder), tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(PROBE))


def is_ample(folder: Path) -> bool:
    """True where want of room can be ruled out."""
    return shutil.disk_usage(folder).free > AMPLE
