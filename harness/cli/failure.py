"""The last door: what nobody expected, in one line that says that harness itself failed, and where the rest is."""

from __future__ import annotations

import errno
import os
import sys

from harness.errors import HarnessError
from harness.report.wording import shortened

LONGEST = 500
NO_FOLDER = "the working directory is gone; change to one that is there"
SHOW = "HARNESS_TRACEBACK"


def failure_line(error: BaseException) -> str:
    """One line for ``error``; its traceback is kept in a file, or printed where HARNESS_TRACEBACK asks for it."""
    if why := _refused_by_the_system(error):
        return why
    what = f"harness itself failed: {type(error).__name__}: {shortened(_message(error), LONGEST)}"
    return f"{what}; {_kept(error)}"


def _refused_by_the_system(error: BaseException) -> str | None:
    """What the system did not give, where that is all that happened."""
    import resource

    link: BaseException | None = error
    while link is not None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        match link:
            case OSError(errno=errno.EMFILE):
                return (
                    f"at most {files} files may be open at once; raise it with ulimit -n, or take fewer workers with -j"
                )
            case OSError(errno=errno.ENFILE):
                return "the system has no more open files to give; close other programs"
            case BlockingIOError() | RuntimeError(args=("can't start new thread",)):
                return "no further process or thread may be started; raise ulimit -u, or the container's limit"
            case MemoryError() | OSError(errno=errno.ENOMEM):
                return "the system has no more memory to give; close other programs, or take fewer workers with -j"
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                return f"{link.filename or 'a disk'}: {link.strerror}; make room"
            case FileNotFoundError() if not _in_a_folder():
                return NO_FOLDER
        link = link.__cause__
    return None


def require_working_directory() -> None:
    """Raises :class:`HarnessError` where the folder that the command was called in has been removed."""
    if not _in_a_folder():
        raise HarnessError(NO_FOLDER)


def _in_a_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - to see whether it can be told
    except OSError:
        return False
    return True


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as wrong:  # noqa: BLE001 - an exception that cannot say what it is about
        return f"(its message cannot be had: {type(wrong).__name__})"


def _kept(error: BaseException) -> str:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    if os.environ.get(SHOW):
        sys.stderr.write(text)
        return "its traceback stands above"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="harness-traceback-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:
        return f"{SHOW}=1 shows its traceback"
    return f"its traceback is in {file.name}"
