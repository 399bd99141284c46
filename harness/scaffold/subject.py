"""What a first spec is about: a ``torch.nn`` layer by its name, or a module of the user's by its place."""

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
from harness.errors import UsageError, bounded_text, class_name
from harness.model.build import build_layer, call_factory
from harness.model.user_modules import import_user_module
from harness.spec.language.case import FactoryModel, LayerModel
from harness.spec.quoting import suggestion
from harness.spec.signatures import layer_signatures, non_layers

FORM = "name a layer such as Conv2d, or a module of yours as path/to/file.py:Net"


@dataclass(frozen=True, slots=True)
class Subject:
    """A layer or a factory.

    ``named`` is what stands after its key in the spec. ``needed`` are the constructor's parameters that must be given,
    and ``defaults`` what the others are when they are not. ``words`` are the choices of those that have some.
    """

    kind: str
    named: str
    needed: tuple[str, ...]
    defaults: Mapping[str, Any]
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """What the module is called among people."""
        return self.named.rpartition(":")[2]

    def build(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The module in evaluation mode. Lets through what its constructor raises."""
        if self.kind == "layer":
            return build_layer(LayerModel(self.named, arguments)).eval()
        return call_factory(FactoryModel(self.named, arguments)).eval()


def find(text: str) -> Subject:
    """The subject that ``text`` names. Importing a module of the user's runs its code.

    Raises :class:`UsageError` where there is no such layer, file or callable.
    """
    return _factory(text) if ":" in text else _layer(text)


def _layer(name: str) -> Subject:
    signature = layer_signatures().get(name)
    if name.endswith(".py"):
        raise UsageError(f"{name}: name the module in it too, as {name}:Net")
    if signature is None:
        right = non_layers().get(name) or suggestion(name, layer_signatures(), FORM)
        raise UsageError(f"{name}: torch.nn has no such layer; {right}")
    if name.startswith("Lazy"):
        raise UsageError(f"{name}: has no parameters before its first call; name {name.removeprefix('Lazy')}")
    given = inspect.signature(getattr(nn, name)).parameters
    known = signature.parameters
    words = {each.name: _words(each.types) for each in known.values()}
    return Subject(
        kind="layer",
        named=name,
        needed=tuple(each.name for each in known.values() if each.required),
        defaults={each: given[each].default for each in known if not known[each].required and each in given},
        words={each: found for each, found in words.items() if found},
    )


def _words(types: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind.strip("'") for kind in types if kind.startswith("'"))


def _factory(text: str) -> Subject:
    named = f"{_module_of(text)}:{text.rpartition(':')[2]}"
    call = _loaded(named)
    parameters = inspect.signature(call).parameters.values()
    wanted = [each for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    return Subject(
        kind="factory",
        named=named,
        needed=tuple(each.name for each in wanted if each.default is each.empty),
        defaults={each.name: each.default for each in wanted if each.default is not each.empty},
    )


def _module_of(text: str) -> str:
    """The module's dotted name, as it is imported from this folder."""
    place = text.rpartition(":")[0]
    if not place.endswith(".py"):
        return place
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"{place}: no such file; {FORM}")
    try:
        parts = path.relative_to(Path.cwd()).with_suffix("").parts
    except ValueError:
        raise UsageError(f"{place}: not below this folder; call harness init from a folder above the file") from None
    if not all(re.fullmatch(r"[A-Za-z_]\w*", part) for part in parts):
        raise UsageError(f"{place}: cannot be imported by this name; use letters, digits and _ in names of folders")
    return ".".join(parts)


def _modules(module: ModuleType) -> list[str]:
    """The classes of modules that are written there."""
    here = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
    return [each.__name__ for each in here if isinstance(each, type) and issubclass(each, nn.Module)]


def _loaded(named: str) -> Any:
    place, _, name = named.partition(":")
    try:
        module = import_user_module(place, place)
    except UsageError:
        raise
    except BaseException as error:
        said = " ".join(bounded_text(error).split())[:MAX_MESSAGE_LENGTH]
        raise UsageError(f"{place}: {class_name(error)} on import: {said}; {FORM}") from error
    call = getattr(module, name, None)
    if not callable(call):
        right = suggestion(name, vars(module), f"it has {', '.join(there)}" if (there := _modules(module)) else FORM)
        raise UsageError(f"{place} has no callable {name}; {right}")
    return call
