"""How a spec names a module that exists: its ``torch.nn`` class or its factory, with the constructor's arguments.

The arguments of a ``torch.nn`` layer are read from the layer, and only those that differ from their defaults are kept:
the layer is built again with them, and has to have the same attributes and shapes of parameters. The arguments of other
classes are those that the constructor was called with (:func:`recorded_construction`).
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness.errors import class_name
from harness.model.build import build_layer
from harness.spec.language.case import LayerModel
from harness.spec.signatures import layer_signatures

Keys: TypeAlias = Mapping[str, Any]
"""The keys of a spec that name a model: ``layer`` or ``factory``, and ``args`` if there are any."""

WHOLE_MODELS = frozenset({"Transformer"})
"""Classes of ``torch.nn`` that call other layers one by one, as a model does."""
DEPRECATED = frozenset({"size_average", "reduce"})
NOT_KEPT = object()
MAX_ELEMENTS = 1024
"""A tensor that is an argument is written with its values, up to this size."""


class NotSpelled(Exception):
    """A spec cannot name the module; the message is the reason."""


def is_torch_layer(module: nn.Module) -> bool:
    """True for a layer of ``torch.nn`` that a spec names with ``layer:``; a subclass is another class."""
    name = type(module).__name__
    return type(module) is getattr(nn, name, None) and name in layer_signatures() and name not in WHOLE_MODELS


@dataclass(frozen=True, slots=True)
class Construction:
    """The modules that were built, by identity, and what the constructor of each was called with."""

    _calls: dict[int, tuple[nn.Module, Mapping[str, Any]]] = field(default_factory=dict)

    def arguments_of(self, module: nn.Module) -> Mapping[str, Any] | None:
        """The arguments by name, with ``*args`` and ``**kwargs``; None if the module was copied or unpickled."""
        found = self._calls.get(id(module))
        return None if found is None else found[1]

    def note(self, frame: FrameType) -> None:
        """Keep the arguments of ``frame`` if it is the first constructor call of a module."""
        code = frame.f_code
        values = frame.f_locals
        module = values.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(module, nn.Module) and id(module) not in self._calls:
            names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            arguments = {name: values[name] for name in names if name in values}
            position = code.co_argcount + code.co_kwonlyargcount
            for flag, stars in ((inspect.CO_VARARGS, "*"), (inspect.CO_VARKEYWORDS, "**")):
                if code.co_flags & flag:
                    arguments[f"{stars}{code.co_varnames[position]}"] = values.get(code.co_varnames[position])
                    position += 1
            self._calls[id(module)] = (module, arguments)


@contextmanager
def recorded_construction() -> Iterator[Construction]:
    """Record the constructor call of every module that is built inside."""
    construction, before = Construction(), sys.getprofile()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "__init__":
            construction.note(frame)

    sys.setprofile(profile)
    try:
        yield construction
    finally:
        sys.setprofile(before)


def spelled(module: nn.Module, construction: Construction, home: Path) -> Keys:
    """The keys of a spec that name ``module``. Paths are relative to ``home``. Raises :class:`NotSpelled`."""
    if is_torch_layer(module):
        name, arguments = type(module).__name__, layer_arguments(module)
        return {"layer": name, **({"args": arguments} if arguments else {})}
    if isinstance(module, torch.jit.ScriptModule):
        raise NotSpelled("it is TorchScript, whose class and arguments are not kept")
    arguments = _constructor_arguments(module, construction)
    return {"factory": factory_of(type(module), home), **({"args": arguments} if arguments else {})}


# Layers of torch.nn


def layer_arguments(layer: nn.Module) -> dict[str, Any]:
    """The arguments of a ``torch.nn`` layer that are not at their defaults, as a spec writes them.

    Raises :class:`NotSpelled` if no arguments give a layer like this one.
    """
    name = type(layer).__name__
    signature = layer_signatures()[name]
    arguments: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        value = NOT_KEPT if parameter.name in DEPRECATED else _attribute(layer, parameter.name)
        if value is not NOT_KEPT and (parameter.required or not _is_default(name, parameter.name, value)):
            arguments[parameter.name] = as_spec_value(parameter.name, value)
    traits = _traits(layer)
    if not _builds(name, arguments, traits):
        raise NotSpelled(f"its arguments cannot be read from it; {name}({_shown(arguments)}) is another layer")
    for key, value in list(arguments.items()):
        without = {other: each for other, each in arguments.items() if other != key}
        if not signature.parameters[key].required and _builds(name, without, traits):
            arguments = without
        elif isinstance(value, list) and len({repr(each) for each in value}) == 1:
            single = {**arguments, key: value[0]}
            if signature.parameters[key].accepts(value[0]) and _builds(name, single, traits):
                arguments = single
    return arguments


def _attribute(layer: nn.Module, name: str) -> Any:
    """The value of the argument ``name`` as the layer keeps it; :data:`NOT_KEPT` if it does not."""
    match layer, name:
        case ((nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer()), _):
            return _of_transformer_layer(layer, name)
        case nn.MultiheadAttention(), "bias":
            return layer.in_proj_bias is not None
        case nn.MultiheadAttention(), "add_bias_kv":
            return layer.bias_k is not None
        case nn.AdaptiveLogSoftmaxWithLoss(), "cutoffs":
            return layer.cutoffs[:-1]
    value = getattr(layer, name, NOT_KEPT)
    is_parameter = name == "bias" and (value is None or isinstance(value, torch.Tensor))
    return value is not None if is_parameter else value


def _of_transformer_layer(layer: Any, name: str) -> Any:
    activations = {functional.relu: "relu", functional.gelu: "gelu"}
    values: Mapping[str, Callable[[], Any]] = {
        "d_model": lambda: layer.self_attn.embed_dim,
        "nhead": lambda: layer.self_attn.num_heads,
        "dim_feedforward": lambda: layer.linear1.out_features,
        "dropout": lambda: layer.dropout.p,
        "activation": lambda: activations.get(layer.activation, layer.activation),
        "layer_norm_eps": lambda: layer.norm1.eps,
        "batch_first": lambda: layer.self_attn.batch_first,
        "norm_first": lambda: layer.norm_first,
        "bias": lambda: layer.linear1.bias is not None,
    }
    return values[name]() if name in values else NOT_KEPT


def _is_default(layer: str, name: str, value: Any) -> bool:
    default = inspect.signature(getattr(nn, layer)).parameters.get(name)
    return default is not None and type(default.default) is type(value) and bool(default.default == value)


def _builds(name: str, arguments: Mapping[str, Any], traits: Mapping[str, Any]) -> bool:
    """True if the layer with these arguments has these attributes and parameters. No values are drawn."""
    try:
        with torch.device("meta"), _Undrawn(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a layer without elements is no news
            built = build_layer(LayerModel(name, {key: _with_tensors(value) for key, value in arguments.items()}))
    except Exception:  # noqa: BLE001 - the layer refuses them
        return False
    return _traits(built) == traits


class _Undrawn(TorchFunctionMode):
    """Leaves parameters undrawn: on the meta device, torch imports its decompositions for it, which takes seconds."""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        drawn = getattr(func, "__name__", "") in {"normal_", "uniform_"}  # of a tensor, or of torch.nn.init
        return (args or tuple((kwargs or {}).values()))[0] if drawn else func(*args, **(kwargs or {}))


def _with_tensors(value: Any) -> Any:
    return torch.tensor(value["values"]) if isinstance(value, dict) else value


def _traits(module: nn.Module) -> dict[str, Any]:
    """What tells a layer from one with other arguments: plain attributes, and the shapes of parameters and buffers."""
    traits: dict[str, Any] = {
        f"{path}.{name}": repr(value)
        for path, each in module.named_modules()
        for name, value in vars(each).items()
        if not name.startswith("_") and name != "training" and (is_plain(value) or callable(value))
    }
    tensors = (*module.named_parameters(), *module.named_buffers())
    return traits | {f"{name}:": tuple(tensor.shape) for name, tensor in tensors}


# Modules of other classes


def factory_of(cls: type, home: Path) -> str:
    """``package.module:Class`` or ``path/to/file.py:Class``, relative to ``home``. Raises :class:`NotSpelled`."""
    module = sys.modules.get(cls.__module__)
    if module is None or getattr(module, cls.__qualname__, None) is not cls:
        raise NotSpelled("its class is not at the top level of a Python module")
    file = Path(getattr(module, "__file__", None) or "")
    is_own_file = "." not in cls.__module__ and file.suffix == ".py" and "site-packages" not in file.parts
    # A file is named by its path: harness may have imported it so, and a module of a folder is not found elsewhere.
    return f"{os.path.relpath(file, home) if is_own_file else cls.__module__}:{cls.__name__}"


def _constructor_arguments(module: nn.Module, construction: Construction) -> dict[str, Any]:
    recorded = construction.arguments_of(module)
    if recorded is None:
        raise NotSpelled("its arguments are unknown: it was copied or unpickled, not built")
    parameters = inspect.signature(type(module).__init__).parameters
    arguments: dict[str, Any] = {}
    for name, value in recorded.items():
        if name.startswith("**"):
            arguments |= {key: as_spec_value(key, each) for key, each in (value or {}).items()}
        elif name.startswith("*"):
            if value:
                raise NotSpelled(f"its constructor takes {name}")
        elif not _is_unchanged(parameters.get(name), value):
            arguments[name] = as_spec_value(name, value)
    return arguments


def _is_unchanged(parameter: inspect.Parameter | None, value: Any) -> bool:
    if parameter is None:
        return False
    same = type(parameter.default) is type(value) and is_plain(value) and parameter.default == value
    return parameter.default is value or same


# Values


def as_spec_value(name: str, value: Any) -> Any:
    """``value``, the argument ``name``, as a spec writes it. Raises :class:`NotSpelled`."""
    if isinstance(value, torch.Tensor) and value.numel() <= MAX_ELEMENTS:
        return {"values": value.detach().cpu().tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if not is_plain(value):
        raise NotSpelled(f"its argument {name} is of type {class_name(value)}, which a spec cannot write")
    return _as_lists(value)


def _as_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def is_plain(value: Any) -> bool:
    """True for what YAML can write: numbers, texts, booleans, None, and lists and mappings of these."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or type(value) in {bool, int, float, str}


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
