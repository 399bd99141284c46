"""Import the user's own modules: installed modules are found first, the user's folders are searched last."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from harness import search_path
from harness.errors import UsageError


def import_user_module(module_name: str, label: str) -> ModuleType:
    """Import ``module_name``, also from the working directory; ``label`` begins the message of an error.

    Raises :class:`UsageError` if a file or folder of the user has the name of another module, which Python finds first.
    Errors that the import raises pass through.
    """
    folders = search_path.excluded_folders()
    _refuse_shadowed_name(module_name, folders, label)
    search_path.append_folders(folders)
    return import_module(module_name)


def import_user_file(path: str, label: str) -> ModuleType:
    """Import the Python file at ``path``, with its folder and the working directory searched last for what it imports.

    Raises :class:`UsageError` if there is no such file; ``label`` begins the message. Errors of the file pass through.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise UsageError(f"{label}: no such file; name it relative to the working directory")
    name = re.sub(r"\W", "_", f"{file.with_suffix('')}").strip("_")
    if name in sys.modules:
        return sys.modules[name]
    search_path.append_folders([str(file.parent), *search_path.excluded_folders()])
    spec = spec_from_file_location(name, file)
    assert spec is not None, "the name of the file ends in .py"
    assert spec.loader is not None, "it is a file of Python"
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_shadowed_name(module_name: str, folders: Iterable[str], label: str) -> None:
    name = module_name.partition(".")[0]
    first = _first_spec(name)
    for folder in folders if first is not None else ():
        user_spec = PathFinder.find_spec(name, [folder])
        if user_spec is None or not _provides(user_spec, module_name, folder) or _same_module(user_spec, first):
            continue
        file = Path(user_spec.origin or os.path.join(folder, name))  # noqa: PTH118 - as Python names it
        kind = "folder" if file.name == "__init__.py" or user_spec.origin is None else "file"
        shown = os.path.relpath(file.parent if file.name == "__init__.py" else file)
        raise UsageError(
            f"{label}: the name {name} belongs to {_owner(name)}, which is imported instead of {shown}; "
            f"rename the {kind}"
        )


def _first_spec(name: str) -> ModuleSpec | None:
    """The spec of the module that Python finds for ``name`` before the user's folders are searched."""
    try:
        return find_spec(name)
    except ValueError:  # a module object that was created by hand has no spec
        return None


def _provides(user_spec: ModuleSpec, module_name: str, folder: str) -> bool:
    """True for a module or package. A folder without ``__init__.py`` must contain the submodule."""
    path = Path(folder, *module_name.split("."))
    return user_spec.origin is not None or ("." in module_name and (path.is_dir() or path.with_suffix(".py").is_file()))


def _same_module(user_spec: ModuleSpec, first: ModuleSpec | None) -> bool:
    """True if both specs are the same file, or portions of one namespace package."""
    if first is None or user_spec.origin is None:
        return first is None or (first.origin is None and first.submodule_search_locations is not None)
    return first.origin is not None and os.path.realpath(user_spec.origin) == os.path.realpath(first.origin)


def _owner(name: str) -> str:
    if name in sys.stdlib_module_names:
        return "Python's standard library"
    if name == "harness":  # an editable installation of harness lists no modules
        return "harness itself"
    distributions = packages_distributions().get(name)
    return f"the installed package {distributions[0]}" if distributions else "an installed package"
