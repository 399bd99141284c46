"""The parameters of the constructor and of ``forward`` of every public ``torch.nn`` layer, with the accepted types.

The data are in ``signatures.json``, so that specs are checked without torch. For a new version of torch,
``python -m harness.spec.signatures`` writes the file again; a test compares it with the installed torch. Only
:func:`signatures_from_torch` and its helpers import torch.

Types are written as ``int``, ``float`` (an integer too), ``bool``, ``str``, ``none``, ``'word'`` for one string,
``tuple[int, int]``, ``tuple[int?, ...]`` (any length, nulls allowed) and ``any``. ``tensor`` is written like an input
(:mod:`harness.spec.language.models`); ``object`` is a type that no spec can write.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: the types that it accepts, and whether it is required."""

    name: str
    types: tuple[str, ...]
    required: bool

    def accepts(self, value: Any) -> bool:
        """True if ``value`` is of one of the types."""
        return any(_is_of_type(kind, value) for kind in self.types)

    @property
    def takes_tensor(self) -> bool:
        """True if an input can be bound to it."""
        return bool({"tensor", "any"} & set(self.types))

    @property
    def expected_types(self) -> str:
        """The accepted types in words."""
        phrases = [_phrase(kind) for kind in self.types if kind != "object"]
        return " or ".join(dict.fromkeys(phrases)) or "a value that a spec cannot express; use `factory:`"


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a layer's constructor and of its ``forward``, each by name and in order."""

    layer: str
    parameters: Mapping[str, Parameter]
    forward: Mapping[str, Parameter]

    @property
    def tensor_parameters(self) -> list[str]:
        """The names of the leading parameters of ``forward`` that inputs can be bound to, in order."""
        names: list[str] = []
        for parameter in self.forward.values():
            if not parameter.takes_tensor:
                break
            names.append(parameter.name)
        return names


@cache
def layer_signatures() -> Mapping[str, Signature]:
    """The signature of every layer, by its class name."""
    return {
        name: Signature(name, _parameters(layer["parameters"]), _parameters(layer["forward"]))
        for name, layer in _data()["layers"].items()
    }


def non_layers() -> Mapping[str, str]:
    """The modules of ``torch.nn`` that are not layers, each with the reason or what to use instead."""
    reasons: Mapping[str, str] = _data()["not_layers"]
    return reasons


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files(__package__).joinpath("signatures.json").read_text("utf-8"))
    return data


def _parameters(data: Mapping[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter(name, tuple(each["types"]), bool(each.get("required"))) for name, each in data.items()}


def _is_of_type(kind: str, value: Any) -> bool:
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
        _is_of_type(kind.removesuffix("?"), each) or (kind.endswith("?") and each is None)
        for kind, each in zip(elements, value, strict=True)
    )


def _phrase(kind: str) -> str:
    nouns = {
        "any": "any value",
        "tensor": "a tensor such as {values: [1, 2]}",
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


# Reading the signatures from the installed torch

NON_LAYERS = {
    "Module": "it is the base of every layer",
    "Container": "it is the base of containers",
    "RNNBase": "use RNN, LSTM or GRU",
    "RNNCellBase": "use RNNCell, LSTMCell or GRUCell",
    "Sequential": "write the layers under `sequential:`",
    "ModuleList": "write the layers under `sequential:` or `graph:`",
    "ModuleDict": "write the layers under `sequential:` or `graph:`",
    "ParameterList": "it computes nothing",
    "ParameterDict": "it computes nothing",
    "DataParallel": "harness runs one device",
    "TransformerEncoder": "it is built from other modules; use `factory:`",
    "TransformerDecoder": "it is built from other modules; use `factory:`",
}
SET_BY_HARNESS = frozenset({"device", "dtype"})

# Types that torch does not annotate, or describes only in prose.
TYPE_OVERRIDES: dict[tuple[str, str], list[str]] = {
    ("LSTM", "hx"): ["tuple[tensor, tensor]", "none"],
    ("GRU", "hx"): ["tensor", "none"],
    ("RNN", "hx"): ["tensor", "none"],
    ("RNN", "nonlinearity"): ["'tanh'", "'relu'"],
    ("RNNCell", "nonlinearity"): ["'tanh'", "'relu'"],
    ("GELU", "approximate"): ["'none'", "'tanh'"],
    ("MultiheadAttention", "embed_dim"): ["int"],
    ("MultiheadAttention", "num_heads"): ["int"],
    ("MultiheadAttention", "kdim"): ["int", "none"],
    ("MultiheadAttention", "vdim"): ["int", "none"],
    ("EmbeddingBag", "mode"): ["'mean'", "'sum'", "'max'"],
    ("Upsample", "mode"): [
        "'nearest'",
        "'nearest-exact'",
        "'linear'",
        "'bilinear'",
        "'bicubic'",
        "'trilinear'",
        "'area'",
    ],
}
# Sizes of a layer for N dimensions: torch annotates some of them with any length, and refuses every length but N.
SIZE_PARAMETERS = frozenset({"kernel_size", "stride", "padding", "dilation", "output_size"})
SCALAR_TYPES = {int: "int", float: "float", bool: "bool", str: "str", type(None): "none"}


def signatures_from_torch() -> dict[str, Any]:
    """The signatures of every public ``torch.nn`` layer of the installed torch, as ``signatures.json`` holds them."""
    import torch
    from torch import nn

    names = sorted(
        name
        for name, member in vars(nn).items()
        if inspect.isclass(member) and issubclass(member, nn.Module) and not name.startswith("_")
    )
    return {
        "torch": torch.__version__.partition("+")[0],
        "layers": {
            name: {
                "parameters": _sized(name, _parameters_of(name, _constructor(name))),
                "forward": _parameters_of(name, _forward(name)),
            }
            for name in names
            if name not in NON_LAYERS
        },
        "not_layers": {name: reason for name, reason in NON_LAYERS.items() if name in names},
    }


def as_json(data: dict[str, Any]) -> str:
    """``data`` as JSON, one line per constructor or ``forward``, so that the diff of a new torch is easy to read."""
    layers = ",\n".join(
        f'  {json.dumps(name)}: {{\n   "parameters": {json.dumps(each["parameters"])},\n'
        f'   "forward": {json.dumps(each["forward"])}}}'
        for name, each in data["layers"].items()
    )
    rest = json.dumps(data["not_layers"], indent=1)
    return f'{{\n "torch": {json.dumps(data["torch"])},\n "layers": {{\n{layers}\n }},\n "not_layers": {rest}\n}}\n'


def _constructor(name: str) -> Iterator[tuple[inspect.Parameter, Any]]:
    from torch import nn

    if name not in {"RNN", "LSTM", "GRU"}:
        yield from _annotated(getattr(nn, name).__init__)
        return
    # The constructors of these three take *args and **kwargs and pass them to RNNBase.
    for parameter, hint in _annotated(nn.RNNBase.__init__):
        if parameter.name == "mode" or (parameter.name == "proj_size" and name != "LSTM"):
            continue
        yield parameter, hint
    if name == "RNN":
        yield inspect.Parameter("nonlinearity", inspect.Parameter.KEYWORD_ONLY, default="tanh"), str


def _forward(name: str) -> Iterator[tuple[inspect.Parameter, Any]]:
    from torch import nn

    return _annotated(getattr(nn, name).forward)


def _annotated(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    """The parameters after ``self`` with their resolved annotations, except ``*args`` and ``**kwargs``."""
    hints = get_type_hints(function)
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield parameter, hints.get(parameter.name, inspect.Parameter.empty)


def _parameters_of(layer: str, parameters: Iterator[tuple[inspect.Parameter, Any]]) -> dict[str, Any]:
    return {
        parameter.name: _described(layer, parameter, hint)
        for parameter, hint in parameters
        if parameter.name not in SET_BY_HARNESS and not parameter.name.startswith("_")
    }


def _sized(layer: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """``parameters`` with sizes of any length fixed to the number of dimensions in the layer's name."""
    dimensions = re.search(r"([123])d$", layer)
    if dimensions is not None:
        for name in SIZE_PARAMETERS & parameters.keys():
            parameters[name]["types"] = [
                re.sub(r"^tuple\[(int\??), \.\.\.\]$", lambda match: _repeated(match[1], int(dimensions[1])), kind)
                for kind in parameters[name]["types"]
            ]
    return parameters


def _repeated(element: str, times: int) -> str:
    return f"tuple[{', '.join([element] * times)}]"


def _described(layer: str, parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    kinds = TYPE_OVERRIDES.get((layer, parameter.name)) or list(dict.fromkeys(_types(hint, parameter.default)))
    if parameter.default is parameter.empty:
        return {"types": kinds, "required": True}
    if parameter.default is None and "none" not in kinds and "any" not in kinds:
        kinds = [*kinds, "none"]
    is_plain = parameter.default is None or type(parameter.default) in SCALAR_TYPES
    return {"types": kinds, **({"default": parameter.default} if is_plain else {})}


def _types(hint: Any, default: Any) -> Iterator[str]:
    """The types of an annotation; without an annotation, the type of the default."""
    if hint is inspect.Parameter.empty:
        yield SCALAR_TYPES.get(type(default), "any") if default not in {None, inspect.Parameter.empty} else "any"
    elif get_origin(hint) in {Union, types.UnionType}:
        for each in get_args(hint):
            yield from _types(each, default)
    elif get_origin(hint) is Literal:
        yield from (repr(each) for each in get_args(hint))
    else:
        yield _type(hint)


def _type(hint: Any) -> str:
    if hint in SCALAR_TYPES:
        return SCALAR_TYPES[hint]
    if getattr(hint, "__name__", "") == "Tensor":
        return "tensor"
    if getattr(hint, "__name__", "") == "Size":
        return "tuple[int, ...]"
    items = get_args(hint)
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Sequence) and items:
        elements = [_element(each) for each in items if each is not Ellipsis]
        is_fixed = get_origin(hint) is tuple and Ellipsis not in items
        return f"tuple[{', '.join(elements)}]" if is_fixed else f"tuple[{elements[0]}, ...]"
    return "object"


def _element(hint: Any) -> str:
    """The type of an element; ``int?`` accepts null too."""
    kinds = list(_types(hint, None))
    return kinds[0] + ("?" if "none" in kinds else "")


if __name__ == "__main__":
    Path(__file__).with_suffix(".json").write_text(as_json(signatures_from_torch()), "utf-8")
