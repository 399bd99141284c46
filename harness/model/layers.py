"""Any ``torch.nn`` class, or a user's factory, from plain data."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from harness.errors import UsageError
from harness.spec.case import FactoryModel, LayerModel


def make(layer: LayerModel) -> nn.Module:
    """The layer, freshly initialised from torch's current random state. Torch's own errors pass through."""
    module = getattr(nn, layer.layer)(**{name: _sized(value) for name, value in layer.args.items()})
    assert isinstance(module, nn.Module)
    return module


def arguments(layer: LayerModel) -> dict[str, Any]:
    """Every constructor argument of the layer by name, torch's defaults included."""
    given = {name: _sized(value) for name, value in layer.args.items()}
    bound = inspect.signature(getattr(nn, layer.layer)).bind(**given)
    bound.apply_defaults()
    return bound.arguments


def call_factory(factory: FactoryModel) -> nn.Module:
    """What the user's ``package.module:callable`` returns; found from the current directory, as ``python -m`` does.

    Raises :class:`UsageError` where there is no such callable or it returns no module.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    place, _, name = factory.factory.partition(":")
    try:
        made = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"factory {factory.factory!r}: {error}; name it package.module:callable") from error
    module = made(**factory.args)
    if not isinstance(module, nn.Module):
        raise UsageError(f"factory {factory.factory!r} returned {type(module).__name__}; it must return an nn.Module")
    return module


def _sized(value: Any) -> Any:
    """YAML has lists where torch has tuples."""
    if isinstance(value, Mapping):
        return {key: _sized(item) for key, item in value.items()}
    return tuple(_sized(item) for item in value) if isinstance(value, list | tuple) else value
