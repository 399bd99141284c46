"""Finds plugins: layers, exporters, fixes, transforms, runtimes, metrics and report formats.

Each kind is a package. A public module in it lists its plugins, objects with a ``name``, in a tuple ``PROVIDES``. Other
distributions add plugins through entry points in the group ``harness.<kind>`` (``harness.runtimes``, ...), each of
which names such an object or tuple. Only installed distributions count; one in the working directory is ignored.
Nothing here imports torch, and no plugin's module may import it at its top level.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from harness import search_path
from harness.errors import HarnessError, describe_error

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kind = Literal["layers", "exporters", "fixes", "transforms", "runtimes", "compare.metrics", "report"]


@cache
def plugins(kind: Kind) -> dict[str, Any]:
    """Every plugin of ``kind`` by its name, sorted by name.

    Raises :class:`HarnessError` if two plugins have one name, or a plugin of another distribution cannot be loaded.
    """
    package = import_module(f"harness.{kind}")
    registered = [
        plugin
        for module in iter_modules(package.__path__)
        if not module.name.startswith("_")
        for plugin in getattr(import_module(f"{package.__name__}.{module.name}"), "PROVIDES", ())
    ]
    # A kind may accept old names of its protocol for a while: see harness/layers/__init__.py.
    with_current_names = getattr(package, "with_current_names", _unchanged)
    for entry_point in _entry_points(f"harness.{kind}"):
        loaded = _load(entry_point)
        registered += map(with_current_names, loaded if isinstance(loaded, tuple) else (loaded,))
    names = [plugin.name for plugin in registered]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise HarnessError(f"two plugins of harness.{kind} are named {', '.join(duplicates)}; rename one")
    return dict(sorted(zip(names, registered, strict=True)))


def _unchanged(plugin: Any) -> Any:
    return plugin


def _entry_points(group: str) -> Iterator[EntryPoint]:
    """The entry points of the installed distributions; if a distribution is found twice, only those of the first."""
    from importlib.metadata import distributions  # slow to import, and not needed for --help

    path, names = search_path.installed_path(), set()
    for distribution in distributions(path=path):
        if distribution.entry_points.select(group=group) and (name := distribution.metadata["Name"]) not in names:
            names.add(name)
            yield from next(iter(distributions(name=name, path=path))).entry_points.select(group=group)


def _load(entry_point: EntryPoint) -> Any:
    try:
        return entry_point.load()
    except Exception as error:
        package = entry_point.dist.name if entry_point.dist else entry_point.value
        wrong = f"the plugin {entry_point.name} of {package} cannot be loaded: {describe_error(error)}"
        raise HarnessError(f"{wrong}; update or uninstall {package}") from error
