"""Find the module of a first spec: a ``torch.nn`` layer by its name, or the user's own module by its file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from harness.check.stages import MAX_MESSAGE_LENGTH
from harness.data_files import near_file
from harness.errors import UsageError, bounded_text, class_name
from harness.model.build import build_layer
from harness.model.user_modules import call_factory, exit_at_import, import_user_module
from harness.spec.language.case import FactoryModel, LayerModel
from harness.spec.quoting import suggestion
from harness.spec.signatures import layer_signatures, non_layers

ADVICE = "name a layer such as Conv2d, or your own module as path/to/file.py:Net"


@dataclass(frozen=True, slots=True)
class Constructor:
    """A layer or a factory, and its parameters.

    ``kind`` is the key in the spec (``layer`` or ``factory``), and ``name`` its value. ``required`` are the parameters
    without a default, ``defaults`` the others. ``choices`` are the possible strings of the parameters that have some.
    """

    kind: str
    name: str
    required: tuple[str, ...]
    defaults: Mapping[str, Any]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def short_name(self) -> str:
        """The name without the Python module."""
        return self.name.rpartition(":")[2]

    def build(self, arguments: Mapping[str, Any]) -> nn.Module:
        """Build the module in evaluation mode. Exceptions of its constructor are passed on."""
        if self.kind == "layer":
            return build_layer(LayerModel(self.name, arguments)).eval()
        return call_factory(FactoryModel(self.name, arguments)).eval()


def find_constructor(text: str) -> Constructor:
    """The layer or factory that ``text`` names. Importing the user's own module runs its code.

    Raises :class:`UsageError` if there is no such layer, file or callable.
    """
    return _factory(text) if ":" in text else _layer(text)


def _layer(name: str) -> Constructor:
    signature = layer_signatures().get(name)
    if name.endswith(".py"):
        raise UsageError(f"{name}: add the name of the module, as in {name}:Net")
    if signature is None:
        advice = non_layers().get(name) or suggestion(name, layer_signatures(), ADVICE)
        raise UsageError(f"{name}: torch.nn has no such layer; {advice}")
    if name.startswith("Lazy"):
        raise UsageError(f"{name}: it has no parameters before its first call; name {name.removeprefix('Lazy')}")
    python_parameters = _python_parameters(getattr(nn, name))
    parameters = signature.parameters
    choices = {parameter.name: _choices(parameter.types) for parameter in parameters.values()}
    return Constructor(
        kind="layer",
        name=name,
        required=tuple(parameter.name for parameter in parameters.values() if parameter.required),
        defaults={
            parameter: python_parameters[parameter].default
            for parameter in parameters
            if not parameters[parameter].required and parameter in python_parameters
        },
        choices={parameter: strings for parameter, strings in choices.items() if strings},
    )


def _python_parameters(layer: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    """The parameters of the constructor; LSTM, GRU and RNN pass theirs on to the class above them."""
    parameters = inspect.signature(layer).parameters
    if issubclass(layer, nn.RNNBase) and layer is not nn.RNNBase:
        return {**inspect.signature(nn.RNNBase).parameters, **parameters}
    return parameters


def _choices(types: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind.strip("'") for kind in types if kind.startswith("'"))


def _factory(text: str) -> Constructor:
    name = f"{_module_name(text)}:{text.rpartition(':')[2]}"
    parameters = inspect.signature(_import_factory(name)).parameters.values()
    usable = [each for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    return Constructor(
        kind="factory",
        name=name,
        required=tuple(parameter.name for parameter in usable if parameter.default is parameter.empty),
        defaults={
            parameter.name: parameter.default for parameter in usable if parameter.default is not parameter.empty
        },
    )


def _module_name(text: str) -> str:
    """The dotted name of the Python module, as it is imported from the current folder."""
    file = text.rpartition(":")[0]
    if not file.endswith(".py"):
        return file
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"{file}: no such file; {near_file(path, ADVICE)}")
    try:
        parts = path.relative_to(Path.cwd()).with_suffix("").parts
    except ValueError:
        raise UsageError(f"{file}: not in the current folder; run harness init in a folder above the file") from None
    if not all(re.fullmatch(r"[A-Za-z_]\w*", part) for part in parts):
        raise UsageError(f"{file}: cannot be imported by this name; use only letters, digits and _ in it")
    return ".".join(parts)


def _import_factory(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = import_user_module(module_name, module_name)
    except UsageError:
        raise
    except SystemExit as error:
        raise exit_at_import(module_name, error) from error
    except BaseException as error:
        message = " ".join(bounded_text(error).split())[:MAX_MESSAGE_LENGTH]
        raise UsageError(f"{module_name}: {class_name(error)} on import: {message}; {ADVICE}") from error
    factory = getattr(module, attribute, None)
    if factory is not None and not callable(factory):
        kind = type(factory).__name__
        raise UsageError(f"{module_name} has no callable {attribute}, which is {kind}; name a class or a function")
    if factory is None:
        classes = _module_classes(module)
        advice = suggestion(attribute, vars(module), f"it has {', '.join(classes)}" if classes else ADVICE)
        raise UsageError(f"{module_name} has no callable {attribute}; {advice}")
    return factory


def _module_classes(module: ModuleType) -> list[str]:
    """The names of the ``nn.Module`` classes that the Python module defines itself."""
    defined = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
    return [each.__name__ for each in defined if isinstance(each, type) and issubclass(each, nn.Module)]
