"""Where Python looks for modules: in what is installed and in PYTHONPATH, not in the working directory.

Python puts the script's folder or the working directory before the standard library, so that a ``queue.py`` there would
replace Python's own. harness leaves such a folder out; it comes last if the user consents to run its code.

This module imports only what Python itself loads at its start: any other import would look into that folder.
"""

import os
import sys

STANDARD_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib is not loaded yet
STANDARD_ARCHIVE = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
_remembered: list[str] = []


def installed_path() -> list[str]:
    """``sys.path`` without the entries before the standard library that PYTHONPATH does not name."""
    return [entry for entry in _split_path()[1] if entry]


def excluded_folders() -> list[str]:
    """The folders that :func:`installed_path` leaves out, absolute, working directory last; for use with consent."""
    working_directory = _working_directory()
    folders = dict.fromkeys(os.path.abspath(entry) for entry in _excluded() if entry)  # noqa: PTH100
    last = [working_directory] if working_directory else []
    return [*(folder for folder in folders if folder != working_directory), *last]


def worker_path() -> list[str]:
    """The folders that a new process needs on its path beside its own: harness's and those with its libraries.

    Folders that a program put on its path itself count, as a bundled application does it. The script's folder and
    everything in the working directory do not.
    """
    working_directory = _working_directory()
    script_folder = os.path.dirname(os.path.realpath(sys.argv[0] if sys.argv else ""))  # noqa: PTH120
    harness_folder = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    others = [
        entry
        for entry in _excluded()
        if entry and not _is_below(entry, working_directory) and not _is_same(entry, script_folder)
    ]
    return [harness_folder, *others]


def remember_excluded(folders: list[str]) -> None:
    """Store ``folders`` for :func:`excluded_folders`: they left ``sys.path``, or were never in this process's."""
    _remembered[:] = folders


def append_folders(folders: list[str]) -> None:
    """Make ``folders`` importable, after everything else."""
    sys.path += [folder for folder in folders if folder not in sys.path]


class InstalledFirst:
    """A context in which modules are looked for in what is installed first: ``with InstalledFirst(): ...``.

    With ``keep`` the excluded folders come last, for the user's code that the block calls; without it they are not
    searched at all.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._excluded: list[str] = []

    def __enter__(self) -> None:
        self._excluded, others = _split_path()
        remember_excluded(_excluded())
        sys.path[:] = [*others, *(self._excluded if self._keep else ())]

    def __exit__(self, *_: object) -> None:
        # Changes of sys.path by another thread or by the block itself stay.
        if self._keep and self._excluded and sys.path[-len(self._excluded) :] == self._excluded:
            del sys.path[-len(self._excluded) :]
        sys.path[:0] = self._excluded


class NoEmptyPythonPathEntry:
    """A context in which PYTHONPATH has no empty entry, which a new process would take for its working directory."""

    def __enter__(self) -> None:
        self._before = os.environ.get("PYTHONPATH")
        if self._before is not None:
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, self._before.split(os.pathsep)))

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            os.environ["PYTHONPATH"] = self._before


def _split_path() -> tuple[list[str], list[str]]:
    """The entries of ``sys.path`` before the standard library that PYTHONPATH does not name, and all others."""
    end = next((at for at, entry in enumerate(sys.path) if entry and _is_same(entry, STANDARD_LIBRARY)), 0)
    python_path = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    # Python takes an empty entry for the working directory; "$PYTHONPATH:/opt" leaves one where the variable was unset.
    allowed = {os.path.realpath(entry) for entry in python_path.split(os.pathsep) if entry}
    excluded = [at for at in range(end) if not sys.path[at] or not _is_allowed(sys.path[at], allowed)]
    return [sys.path[at] for at in excluded], [entry for at, entry in enumerate(sys.path) if at not in excluded]


def _excluded() -> list[str]:
    return list(dict.fromkeys((*_split_path()[0], *_remembered)))


def _is_allowed(entry: str, allowed: set[str]) -> bool:
    """True for an entry of PYTHONPATH, and for the archive that may hold the standard library."""
    return os.path.basename(entry) == STANDARD_ARCHIVE or os.path.realpath(entry) in allowed  # noqa: PTH119


def _is_same(first: str, second: str) -> bool:
    return first == second or os.path.realpath(first) == os.path.realpath(second)


def _is_below(entry: str, folder: str) -> bool:
    return bool(folder) and (os.path.realpath(entry) + os.sep).startswith(os.path.join(folder, ""))  # noqa: PTH118


def _working_directory() -> str:
    try:
        return os.path.realpath(os.getcwd())  # noqa: PTH109
    except OSError:  # it was removed
        return ""
