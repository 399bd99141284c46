"""Every public ``torch.nn`` layer as data: what its constructor and its ``forward`` take.

The data stand in ``signatures.json``, so that specs are checked without torch. After a change of
torch, ``python -m harness.spec.signatures`` writes them anew; a test holds them against the
installed torch. Types are written ``int``, ``float`` (a whole number too), ``bool``, ``str``,
``none``, ``'word'`` for one word, ``tuple[int, int]``, ``tuple[int?, ...]`` (any length, nulls
allowed), ``any``; ``tensor`` and ``object`` are what no spec can write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: the types that it accepts, and whether it must be given."""

    name: str
    types: tuple[str, ...]
    required: bool

    def accepts(self, value: Any) -> bool:
        """True where ``value`` is of one of the types."""
        return any(_is(kind, value) for kind in self.types)

    @property
    def takes_tensor(self) -> bool:
        """True where an input can be bound to it."""
        return bool({"tensor", "any"} & set(self.types))

    @property
    def wanted(self) -> str:
        """The accepted types in words."""
        words = [_in_words(kind) for kind in self.types if kind not in {"tensor", "object"}]
        return " or ".join(dict.fromkeys(words)) or "something that a spec cannot name; use `factory:`"


@dataclass(frozen=True, slots=True)
class Signature:
    """A layer's constructor and its ``forward``, each by parameter name in order."""

    layer: str
    parameters: Mapping[str, Parameter]
    forward: Mapping[str, Parameter]

    @property
    def tensors(self) -> list[str]:
        """The leading parameters of ``forward`` that inputs can be bound to, by order."""
        names: list[str] = []
        for parameter in self.forward.values():
            if not parameter.takes_tensor:
                break
            names.append(parameter.name)
        return names


@cache
def layers() -> Mapping[str, Signature]:
    """Every layer by its class name."""
    return {
        name: Signature(name, _parameters(each["parameters"]), _parameters(each["forward"]))
        for name, each in _data()["layers"].items()
    }


def not_layers() -> Mapping[str, str]:
    """What ``torch.nn`` has beside layers, and what to use instead."""
    instead: Mapping[str, str] = _data()["not_layers"]
    return instead


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files(__package__).joinpath("signatures.json").read_text("utf-8"))
    return data


def _parameters(data: Mapping[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter(name, tuple(each["types"]), bool(each.get("required"))) for name, each in data.items()}


def _is(kind: str, value: Any) -> bool:
    match kind:
        case "any":
            return True
        case "none":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "str":
            return isinstance(value, str)
    if kind.startswith("tuple["):
        return isinstance(value, list | tuple) and _is_tuple(kind[6:-1].split(", "), value)
    return isinstance(value, str) and kind == repr(value)


def _is_tuple(elements: list[str], value: list[Any] | tuple[Any, ...]) -> bool:
    if elements[-1] == "...":
        elements = elements[:1] * len(value)
    return len(elements) == len(value) and all(
        _is(kind.removesuffix("?"), each) or (kind.endswith("?") and each is None)
        for kind, each in zip(elements, value, strict=True)
    )


def _in_words(kind: str) -> str:
    nouns = {
        "any": "any value",
        "none": "null",
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "str": "a word",
    }
    if kind.startswith("tuple["):
        *_, last = elements = kind[6:-1].split(", ")
        noun = {"int": "whole numbers", "float": "numbers"}.get(elements[0].removesuffix("?"), "values")
        return f"a list of {noun}" if last == "..." else f"a list of {len(elements)} {noun}"
    return nouns.get(kind, kind.strip("'"))


if __name__ == "__main__":
    from harness.spec.introspect import as_json, signatures

    Path(__file__).with_suffix(".json").write_text(as_json(signatures()), "utf-8")
