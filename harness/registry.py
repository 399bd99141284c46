"""Finds what can be added: layers, exporters, fixes, runtimes, metrics and report formats.

Each kind is a package; every module in it that is not private may name what it adds in a
``PROVIDES`` tuple of objects with a ``name``. Other distributions add theirs through entry
points in the group ``harness.<kind>`` (``harness.runtimes``, ...), each pointing at such an
object or tuple. Only what is installed counts: a distribution in the working directory is none.
Nothing here imports torch, and no plugin's module may at its top level.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, distributions
from pkgutil import iter_modules
from typing import Any, Literal

from harness import search_path
from harness.errors import HarnessError, reason

Kind = Literal["layers", "exporters", "fixes", "runtimes", "compare.metrics", "report"]


@cache
def plugins(kind: Kind) -> dict[str, Any]:
    """Every plugin of ``kind`` by its name, sorted.

    Raises :class:`HarnessError` where two plugins claim one name, or one of another distribution cannot be loaded.
    """
    package = import_module(f"harness.{kind}")
    found = [
        plugin
        for module in iter_modules(package.__path__)
        if not module.name.startswith("_")
        for plugin in getattr(import_module(f"{package.__name__}.{module.name}"), "PROVIDES", ())
    ]
    for point in _announced(f"harness.{kind}"):
        loaded = _loaded(point)
        found += loaded if isinstance(loaded, tuple) else (loaded,)
    names = [plugin.name for plugin in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise HarnessError(f"two plugins of harness.{kind} are called {', '.join(twice)}; rename one")
    return dict(sorted(zip(names, found, strict=True)))


def _announced(group: str) -> Iterator[EntryPoint]:
    """The entry points of what is installed; of a distribution that is found twice, of the first alone."""
    path, seen = search_path.installed(), set()
    for found in distributions(path=path):
        if found.entry_points.select(group=group) and (name := found.metadata["Name"]) not in seen:
            seen.add(name)
            yield from next(iter(distributions(name=name, path=path))).entry_points.select(group=group)


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist else point.value
        right = f"update or uninstall {package}"
        raise HarnessError(
            f"the plugin {point.name} of {package} cannot be loaded: {reason(error)}; {right}"
        ) from error
