"""Torch -> the signatures that specs are checked against: the one file of this room that imports torch."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

NOT_LAYERS = {
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

# What torch leaves without an annotation, or says in prose only.
KNOWN_TYPES: dict[tuple[str, str], list[str]] = {
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
# Sizes of a layer for N dimensions: torch annotates some as of any length, and refuses all but N.
SIZES = frozenset({"kernel_size", "stride", "padding", "dilation", "output_size"})
SCALARS = {int: "int", float: "float", bool: "bool", str: "str", type(None): "none"}


def signatures() -> dict[str, Any]:
    """Every public ``torch.nn`` layer: what its constructor and its ``forward`` take, with the accepted types."""
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
                "parameters": _sized(name, _parameters(name, _constructor(name))),
                "forward": _parameters(name, _forward(name)),
            }
            for name in names
            if name not in NOT_LAYERS
        },
        "not_layers": {name: why for name, why in NOT_LAYERS.items() if name in names},
    }


def as_json(data: dict[str, Any]) -> str:
    """One layer's constructor or ``forward`` a line, so that a change of torch reads well as a diff."""
    layers = ",\n".join(
        f'  {json.dumps(name)}: {{\n   "parameters": {json.dumps(each["parameters"])},\n'
        f'   "forward": {json.dumps(each["forward"])}}}'
        for name, each in data["layers"].items()
    )
    rest = json.dumps(data["not_layers"], indent=1)
    return f'{{\n "torch": {json.dumps(data["torch"])},\n "layers": {{\n{layers}\n }},\n "not_layers": {rest}\n}}\n'


def _constructor(name: str) -> Iterator[tuple[inspect.Parameter, Any]]:
    from torch import nn

    own = getattr(nn, name).__init__
    if name not in {"RNN", "LSTM", "GRU"}:
        yield from _annotated(own)
        return
    # Their own constructors take *args and **kwargs and hand them on to RNNBase.
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
    """The parameters after ``self`` with their resolved annotations, without ``*args`` and ``**kwargs``."""
    hints = get_type_hints(function)
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            yield parameter, hints.get(parameter.name, inspect.Parameter.empty)


def _parameters(layer: str, parameters: Iterator[tuple[inspect.Parameter, Any]]) -> dict[str, Any]:
    return {
        parameter.name: _described(layer, parameter, hint)
        for parameter, hint in parameters
        if parameter.name not in SET_BY_HARNESS and not parameter.name.startswith("_")
    }


def _sized(layer: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """``parameters`` with sizes of any length held to the number of dimensions in the layer's name."""
    dimensions = re.search(r"([123])d$", layer)
    if dimensions is not None:
        for name in SIZES & parameters.keys():
            parameters[name]["types"] = [
                re.sub(r"^tuple\[(int\??), \.\.\.\]$", lambda word: _repeated(word[1], int(dimensions[1])), kind)
                for kind in parameters[name]["types"]
            ]
    return parameters


def _repeated(element: str, times: int) -> str:
    return f"tuple[{', '.join([element] * times)}]"


def _described(layer: str, parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    words = KNOWN_TYPES.get((layer, parameter.name)) or list(dict.fromkeys(_words(hint, parameter.default)))
    if parameter.default is parameter.empty:
        return {"types": words, "required": True}
    if parameter.default is None and "none" not in words and "any" not in words:
        words = [*words, "none"]
    plain = parameter.default is None or type(parameter.default) in SCALARS
    return {"types": words, **({"default": parameter.default} if plain else {})}


def _words(hint: Any, default: Any) -> Iterator[str]:
    """An annotation in the small language of types; without one, what the default's type says."""
    if hint is inspect.Parameter.empty:
        yield SCALARS.get(type(default), "any") if default not in {None, inspect.Parameter.empty} else "any"
    elif get_origin(hint) in {Union, types.UnionType}:
        for each in get_args(hint):
            yield from _words(each, default)
    elif get_origin(hint) is Literal:
        yield from (repr(each) for each in get_args(hint))
    else:
        yield _word(hint)


def _word(hint: Any) -> str:
    if hint in SCALARS:
        return SCALARS[hint]
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
    """An element's type; ``int?`` may be null too."""
    kinds = list(_words(hint, None))
    return kinds[0] + ("?" if "none" in kinds else "")
