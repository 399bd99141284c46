"""Where modules are looked for: in what is installed and in PYTHONPATH, never in the working directory by itself.

Python puts the script's folder or the working directory before the standard library, so that any ``queue.py`` there
takes the place of Python's own. Here such a folder is left out, and comes last where the user consents to run its code.

Nothing is imported here that Python has not loaded when it starts: an import would look into that folder.
"""

import os
import sys

STANDARD = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib is not loaded yet
ARCHIVE = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
_offered: list[str] = []


def installed() -> list[str]:
    """``sys.path`` without what stands before the standard library there and PYTHONPATH does not name."""
    return [entry for entry in _divided()[1] if entry]


def aside() -> list[str]:
    """The folders that :func:`installed` leaves out, absolute, the working directory last: for use with consent."""
    here = _working_directory()
    folders = dict.fromkeys(os.path.abspath(entry) for entry in _left_out() if entry)  # noqa: PTH100
    return [*(folder for folder in folders if folder != here), *([here] if here else [])]


def for_workers() -> list[str]:
    """What a new process has to be told of beyond its own: where harness is found, and what holds its libraries.

    Folders that a program itself put on its path count, as a bundled application does it; the folder of the script
    and whatever is in the working directory do not.
    """
    here, script = _working_directory(), os.path.dirname(os.path.realpath(sys.argv[0] if sys.argv else ""))  # noqa: PTH120
    own = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    others = [entry for entry in _left_out() if entry and not _is_below(entry, here) and not _same(entry, script)]
    return [own, *others]


def offer(folders: list[str]) -> None:
    """Remember ``folders``, which are no longer in ``sys.path`` or never were in this process's: see :func:`aside`."""
    _offered[:] = folders


def append(folders: list[str]) -> None:
    """Make ``folders`` importable, after all else."""
    sys.path += [folder for folder in folders if folder not in sys.path]


class Installed:
    """Within the block, modules are looked for in what is installed first: ``with Installed(): ...``.

    With ``keep`` the other folders come last, for code of the user's that the block calls; without, not at all.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._out: list[str] = []

    def __enter__(self) -> None:
        self._out, others = _divided()
        offer(_left_out())
        sys.path[:] = [*others, *(self._out if self._keep else ())]

    def __exit__(self, *_: object) -> None:
        # What another thread or the block itself changed stays.
        if self._keep and self._out and sys.path[-len(self._out) :] == self._out:
            del sys.path[-len(self._out) :]
        sys.path[:0] = self._out


def _divided() -> tuple[list[str], list[str]]:
    """The entries of ``sys.path`` before the standard library that PYTHONPATH does not name, and all others."""
    end = next((at for at, entry in enumerate(sys.path) if entry and _same(entry, STANDARD)), 0)
    named = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    # An empty entry means the working directory to Python, and an unset variable to whoever wrote "$PYTHONPATH:/opt".
    known = {os.path.realpath(entry) for entry in named.split(os.pathsep) if entry}
    front = [at for at in range(end) if not sys.path[at] or not _is_known(sys.path[at], known)]
    return [sys.path[at] for at in front], [entry for at, entry in enumerate(sys.path) if at not in front]


def _left_out() -> list[str]:
    return list(dict.fromkeys((*_divided()[0], *_offered)))


def _is_known(entry: str, known: set[str]) -> bool:
    """True for PYTHONPATH's, and for the archive that the standard library may lie in."""
    return os.path.basename(entry) == ARCHIVE or os.path.realpath(entry) in known  # noqa: PTH119


def _same(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _is_below(entry: str, folder: str) -> bool:
    return bool(folder) and (os.path.realpath(entry) + os.sep).startswith(os.path.join(folder, ""))  # noqa: PTH118


def _working_directory() -> str:
    try:
        return os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:  # it was removed
        return ""


class named_folders:  # noqa: N801 - as contextlib's, which may not be imported here
    """Within the block, PYTHONPATH has no empty entry, which a process that is started would take for its folder."""

    def __enter__(self) -> None:
        self._before = os.environ.get("PYTHONPATH")
        if self._before is not None:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, self._before.split(os.pathsep)))

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            os.environ["PYTHONPATH"] = self._before
