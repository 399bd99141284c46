"""The same edit for every layer of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.spec.case import Case, GraphModel, LayerModel, Model, SequentialModel


def each_layer(case: Case, edits: Callable[[LayerModel], Iterator[LayerModel]]) -> Iterator[Case]:
    """The case with one of ``edits`` done to one of its layers, for each edit of each layer."""
    model = case.model.model
    match model:
        case LayerModel():
            for edited in edits(model):
                yield with_model(case, edited)
        case SequentialModel(steps):
            for at, step in enumerate(steps):
                for edited in edits(step):
                    yield with_model(case, SequentialModel((*steps[:at], edited, *steps[at + 1 :])))
        case GraphModel(nodes, returns):
            for at, node in enumerate(nodes):
                for edited in edits(node.layer):
                    one = replace(node, layer=edited)
                    yield with_model(case, GraphModel((*nodes[:at], one, *nodes[at + 1 :]), returns))


def all_layers(model: Model, edit: Callable[[LayerModel], LayerModel]) -> Model:
    """``model`` with ``edit`` done to all of its layers."""
    match model:
        case LayerModel():
            return edit(model)
        case SequentialModel(steps):
            return SequentialModel(tuple(map(edit, steps)))
        case GraphModel(nodes, returns):
            return GraphModel(tuple(replace(node, layer=edit(node.layer)) for node in nodes), returns)
        case _:
            return model


def with_model(case: Case, model: Model) -> Case:
    """``case`` with another model under the same weights."""
    return replace(case, model=replace(case.model, model=model))


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """``change`` done to every number in lists and mappings, in the form that they had."""
    if isinstance(value, Mapping):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, change) for item in value)
    return change(value)
