"""Any ``torch.nn`` class, or a user's factory, from plain data."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from harness.errors import UsageError
from harness.model.own_code import imported
from harness.spec.case import FactoryModel, LayerModel
from harness.spec.nearest import suggestion

FORM = "name it package.module:callable"


def make(layer: LayerModel) -> nn.Module:
    """The layer, freshly initialised from torch's current random state. Torch's own errors pass through."""
    module = getattr(nn, layer.layer)(**{name: _sized(value) for name, value in layer.args.items()})
    assert isinstance(module, nn.Module)
    return module


def arguments(layer: LayerModel) -> dict[str, Any]:
    """Every constructor argument of the layer by name, torch's defaults included."""
    given = {name: _sized(value) for name, value in layer.args.items()}
    defaults = _defaults(layer.layer)
    if defaults and given.keys() <= defaults.keys():
        every = {**defaults, **given}
        if inspect.Parameter.empty not in every.values():
            return every
    bound = _signature(layer.layer).bind(**given)  # which says what is wrong with them
    bound.apply_defaults()
    return bound.arguments


@cache
def _signature(layer: str) -> inspect.Signature:
    return inspect.signature(getattr(nn, layer))


@cache
def _defaults(layer: str) -> dict[str, Any]:
    """What each parameter is where it is not given; none are told where there may be more of them than have names."""
    parameters = _signature(layer).parameters
    if any(parameter.kind in _OF_ANY_NUMBER for parameter in parameters.values()):
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


_OF_ANY_NUMBER = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def call_factory(factory: FactoryModel) -> nn.Module:
    """What the user's ``package.module:callable`` returns; looked for in the working directory after all else.

    Raises :class:`UsageError` where there is no such callable, its module has the name of another one, or it returns
    no module.
    """
    place, _, name = factory.factory.partition(":")
    try:
        made = getattr(imported(place, f"factory {factory.factory!r}"), name)
    except ImportError as error:
        raise UsageError(f"factory {factory.factory!r}: {error}; {_importable(place, error)}") from error
    except AttributeError as error:
        right = suggestion(name, vars(sys.modules[place]) if place in sys.modules else (), FORM)
        raise UsageError(f"factory {factory.factory!r}: {error}; {right}") from error
    module = made(**factory.args)
    if not isinstance(module, nn.Module):
        raise UsageError(f"factory {factory.factory!r} returned {type(module).__name__}; it must return an nn.Module")
    return module


def _importable(place: str, error: ImportError) -> str:
    """What would make the module ``place`` be found."""
    if place.endswith(".py"):
        return f"write {place.removesuffix('.py').rpartition('/')[2]} for the file, without .py"
    if isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]:
        return f"run harness in the folder that holds it, not in {Path.cwd()}, or install it, or add it to PYTHONPATH"
    return FORM


def _sized(value: Any) -> Any:
    """YAML has lists where torch has tuples."""
    if isinstance(value, Mapping):
        return {key: _sized(item) for key, item in value.items()}
    return tuple(_sized(item) for item in value) if isinstance(value, list | tuple) else value
