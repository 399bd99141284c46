"""Modules of the user's: looked for after all that is installed, and never in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from harness import search_path
from harness.errors import UsageError


def imported(place: str, told: str) -> ModuleType:
    """The module ``place``, also from the working directory. ``told`` is what the user called it.

    Raises :class:`UsageError` where a file of the user's has the name of something else that Python finds first, and
    lets through what the import raises.
    """
    folders = search_path.aside()
    _refuse_a_name_that_is_taken(place, folders, told)
    search_path.append(folders)
    return import_module(place)


def _refuse_a_name_that_is_taken(place: str, folders: Iterable[str], told: str) -> None:
    name = place.partition(".")[0]
    first = _first_found(name)
    for folder in folders if first is not None else ():
        own = PathFinder.find_spec(name, [folder])
        if own is not None and _is_meant(own, place, folder) and not _are_one(own, first):
            file = Path(own.origin or os.path.join(folder, name))  # noqa: PTH118 - as Python names it
            kind = "folder" if file.name == "__init__.py" or own.origin is None else "file"
            shown = os.path.relpath(file.parent if file.name == "__init__.py" else file)
            said = f"the name {name} is that of {_owner(name)}, which is imported and {shown} is not"
            raise UsageError(f"{told}: {said}; rename the {kind}")


def _first_found(name: str) -> ModuleSpec | None:
    """What Python imports by this name, before the user's own folders count."""
    try:
        return find_spec(name)
    except ValueError:  # a module that was made by hand
        return None


def _is_meant(own: ModuleSpec, place: str, folder: str) -> bool:
    """True for a module or a package; of a folder without ``__init__.py``, only where it has what is asked for."""
    wanted = Path(folder, *place.split("."))
    return own.origin is not None or ("." in place and (wanted.is_dir() or wanted.with_suffix(".py").is_file()))


def _are_one(own: ModuleSpec, other: ModuleSpec | None) -> bool:
    """True where both are the same file, or are parts of one namespace."""
    if other is None or own.origin is None:
        return other is None or (other.origin is None and other.submodule_search_locations is not None)
    return other.origin is not None and os.path.realpath(own.origin) == os.path.realpath(other.origin)


def _owner(name: str) -> str:
    if name in sys.stdlib_module_names:
        return "Python's standard library"
    if name == "harness":  # whose own installation, where it is an editable one, names no modules
        return "harness itself"
    found = packages_distributions().get(name)
    return f"the installed package {found[0]}" if found else "an installed package"
