"""What ``harness explain`` found out, kept in the cache, so that the same question is answered at once.

An explanation is kept under a digest of the case, the target, the options, the working directory, the search path of
Python, the installed packages and harness itself. What no digest covers is a user's code and files: the processes of an
explanation note each folder that they read from (:func:`note_opened_folders`), and an explanation counts only as long
as the files in those folders are the same. A library that opens a file without Python, as ``torch.jit.load`` and
safetensors do, is not noticed, unless the case names the file or Python reads another file in its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from harness.check.settings import cache_folder
from harness.environment import cpu_signature
from harness.errors import Location
from harness.spec.language.case import Case, FactoryModel
from harness.spec.targets import Target

FOLDER = "explained"
"""The folder inside that of the artifact cache, so that ``harness cache clear`` removes explanations too."""
OPENED = "opened-folders"
SYSTEM_FOLDERS = ("/proc", "/sys", "/dev", "/etc", "/lib", "/usr/lib", "/usr/share")
MAX_PATH = 4096

FileId = tuple[int, int]
"""The device and the inode of a file."""


@dataclass(frozen=True, slots=True)
class KeptExplanation:
    """An explanation as it was printed: its ``lines``, the ``script`` if there is one, and the exit code.

    ``when`` is the local time in minutes. ``depends_on`` has a digest of each folder that it was made from, and
    ``nodes`` the digest of the folder with the failing nodes, empty if there is none.
    """

    when: str
    lines: tuple[str, ...]
    script: str | None
    code: int
    depends_on: Mapping[str, str]
    nodes: str


def key_of(case: Case, target: Target, options: Sequence[object]) -> str:
    """The name under which the explanation of a check is kept; ``options`` are what else its text depends on."""
    question = (replace(case, where=Location("")), str(target), *options)
    return hashlib.sha256(f"{question!r}\n{_environment()}".encode()).hexdigest()


def kept_explanation(key: str, nodes_folder: Path, written: Collection[FileId] = ()) -> KeptExplanation | None:
    """The explanation that is kept under ``key``; None if there is none, or something that it depends on changed.

    The files ``written`` by the explanation (:func:`own_files`) do not count.
    """
    try:
        raw = json.loads(_path(key).read_bytes())
        kept = KeptExplanation(**{**raw, "lines": tuple(raw["lines"])})
        valid = all(folder_digest(Path(folder), written) == digest for folder, digest in kept.depends_on.items())
        return kept if valid and kept.nodes == _contents(nodes_folder, kept.nodes) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # nothing is kept, or it is damaged: the check is explained again


def keep(
    key: str,
    case: Case,
    lines: Sequence[str],
    script: str | None,
    code: int,
    *,
    opened: Iterable[str],
    nodes_folder: Path | None,
    began: float,
    written: Collection[FileId] = (),
) -> None:
    """Keep an explanation that ``began`` at that time. ``opened`` are the folders that its processes read from.

    A file that was written since then, other than those ``written`` by the explanation itself, may have been read
    before that or after it: then nothing is kept. Nor is anything if the cache cannot be written.
    """
    folders = {*opened, *_folders_of(case)}
    if isinstance(case.model.model, FactoryModel):
        folders |= _folders_with_modules()
    if any(_last_change(Path(folder), written) >= began for folder in folders):
        return
    kept = {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "lines": list(lines),
        "script": script,
        "code": code,
        "depends_on": {folder: folder_digest(Path(folder), written) for folder in sorted(folders)},
        "nodes": "" if nodes_folder is None else _contents(nodes_folder, "files"),
    }
    path = _path(key)
    draft = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(kept), encoding="utf-8")
        draft.replace(path)


def own_files(script: Path) -> frozenset[FileId]:
    """The files that an explanation writes itself: its ``script``, and what its output is redirected to."""
    return frozenset(_ids(script, 1, 2))


def _ids(*files: Path | int) -> Iterator[FileId]:
    for file in files:
        with suppress(OSError):
            status = os.stat(file)  # noqa: PTH116 - a Path is no file descriptor
            yield status.st_dev, status.st_ino


def folder_digest(folder: Path, without: Collection[FileId] = ()) -> str:
    """A digest of the names, sizes and last changes of the files in ``folder``, without those in folders below it."""
    return hashlib.sha256(repr(sorted(_files(folder, without))).encode()).hexdigest()


# What an explanation reads


def note_opened_folders(scratch: Path) -> None:
    """From now on, write each folder that this process reads files from to a file in ``scratch``.

    A process can end at any time, so each folder is written at once. Installed packages and the system do not count.
    """
    if _noting:
        return
    _noting.append(True)
    target = os.open(scratch / OPENED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ignored = _ignored(scratch)
    seen: set[str] = set()

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or isinstance(arguments[0], int) or arguments[2] & (os.O_WRONLY | os.O_CREAT):
            return
        folder = str(Path(os.fsdecode(arguments[0])).absolute().parent).removesuffix(f"{os.sep}__pycache__")
        if folder in seen:
            return
        seen.add(folder)
        if not f"{folder}{os.sep}".startswith(ignored):
            os.write(target, f"{folder}\n".encode(errors="surrogateescape"))

    sys.addaudithook(on_event)


_noting: list[bool] = []


def opened_folders(scratch: Path) -> set[str]:
    """The folders that processes with one of these scratch folders, or one inside it, have read files from."""
    folders: set[str] = set()
    for path in scratch.rglob(OPENED):
        folders |= set(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return {folder for folder in folders if not Path(folder).is_relative_to(scratch)}


def _folders_of(value: object) -> Iterator[str]:
    """The folders of all files that a case names: a library may open them without Python."""
    if isinstance(value, str):
        if 0 < len(value) < MAX_PATH and "\0" not in value and (path := Path(value)).exists():
            yield str((path if path.is_dir() else path.parent).resolve())
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _folders_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _folders_of(item)
    elif is_dataclass(value):
        for each in fields(value):
            yield from _folders_of(getattr(value, each.name))


def _folders_with_modules() -> set[str]:
    """The folders where Python looks for a user's modules: one that was missing may be there now."""
    folders = {str(Path(folder).absolute()) for folder in ("", *sys.path)}
    return {folder for folder in folders if not f"{folder}{os.sep}".startswith(_ignored())}


def _ignored(*more: Path) -> tuple[str, ...]:
    """The beginnings of paths that no user changes, or that :func:`_environment` covers."""
    of_harness = map(str, (_package(), cache_folder(), *more))
    return tuple(f"{each}{os.sep}" for each in {*SYSTEM_FOLDERS, *_of_python(), *_site_packages(), *of_harness})


def _files(folder: Path, without: Collection[FileId]) -> Iterator[tuple[str, int, int]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file() and ((status := entry.stat()).st_dev, status.st_ino) not in without:
                # A copy can keep the modification time of its original, but not the time of the inode's last change.
                yield entry.name, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def _last_change(folder: Path, without: Collection[FileId]) -> float:
    return max((time_ns / 1e9 for _, _, time_ns in _files(folder, without)), default=0.0)


def _contents(folder: Path, kept: str) -> str:
    """A digest of all files below ``folder``; empty if ``kept`` is, because then the folder does not count."""
    if not kept:
        return ""
    digests = [f"{each} {folder_digest(each)}" for each in sorted((folder, *folder.rglob("*"))) if each.is_dir()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _path(key: str) -> Path:
    return cache_folder() / FOLDER / f"{key}.json"


def _environment() -> str:
    """Where Python looks for modules, what is installed and since when, the CPU, and harness's own code."""
    packages = sorted(
        (path.name, path.stat().st_mtime_ns)  # another build may have the same version
        for folder in map(Path, _site_packages())
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix in {".dist-info", ".egg-info"}
    )
    own = [(str(path), path.stat().st_mtime_ns) for path in sorted(_package().rglob("*.py"))]
    return f"{sys.version}\n{Path.cwd()}\n{sys.path}\n{packages}\n{cpu_signature()}\n{own}"


def _site_packages() -> list[str]:
    return [folder for folder in sys.path if Path(folder).name in {"site-packages", "dist-packages"}]


def _of_python() -> list[str]:
    return [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def _package() -> Path:
    return Path(__file__).parents[1]
