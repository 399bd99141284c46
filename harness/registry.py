"""Finds what can be added: layers, exporters, fixes, runtimes, metrics and report formats.

Each kind is a package; every module in it that is not private may name what it adds in a
``PROVIDES`` tuple of objects with a ``name``. Other distributions add theirs through entry
points in the group ``harness.<kind>`` (``harness.runtimes``, ...), each pointing at such an
object or tuple. Nothing here imports torch, and no plugin's module may at its top level.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Any, Literal

from harness.errors import HarnessError

Kind = Literal["layers", "exporters", "fixes", "runtimes", "compare.metrics", "report"]


@cache
def plugins(kind: Kind) -> dict[str, Any]:
    """Every plugin of ``kind`` by its name, sorted.

    Raises :class:`HarnessError` where two plugins claim one name.
    """
    package = import_module(f"harness.{kind}")
    found = [
        plugin
        for module in iter_modules(package.__path__)
        if not module.name.startswith("_")
        for plugin in getattr(import_module(f"{package.__name__}.{module.name}"), "PROVIDES", ())
    ]
    for point in entry_points(group=f"harness.{kind}"):
        loaded = point.load()
        found += loaded if isinstance(loaded, tuple) else (loaded,)
    names = [plugin.name for plugin in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise HarnessError(f"two plugins of harness.{kind} are called {', '.join(twice)}; rename one")
    return dict(sorted(zip(names, found, strict=True)))
