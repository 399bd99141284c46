"""Find the layers of a model, with a case for each configuration that occurs.

Every case is tried: the layer is built from the case, given the weights of the model's own layer, and has to give the
same outputs for the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from harness.data_files import UNNAMED, stored_arrays
from harness.errors import SpecError, UsageError, escape_path
from harness.model.build import build_module
from harness.model.running import eager_outputs
from harness.model.tensors import copy_tensor, to_numpy, to_torch
from harness.model.weights import load_weights
from harness.scaffold.comparison import Question, Weights, built_module, cases_of, read_samples
from harness.scaffold.inputs import InputGuess, accepted_inputs, any_kind, labels_of
from harness.scaffold.scan import Configuration, NoScan, NotCovered, ScannedModel
from harness.scaffold.scan.calls import FunctionCall, observed_run
from harness.scaffold.scan.case import LayerCase, layer_case
from harness.scaffold.scan.spelling import Construction, Keys, NotSpelled, recorded_construction, spelled

WHOLE = "whole-model"
GIVE_INPUTS = "give --shape NAME=1,3,224,224 for each input, or --inputs FILE"
CLOSE = 1e-5
"""How far apart, relative to the largest output, a layer and the one built from its case may be: other kernels."""


def scanned(question: Question) -> ScannedModel | NoScan:
    """Build and run the model that ``question.reference`` names, and describe its layers.

    Raises :class:`UsageError`, and what the model raises.
    """
    problems: list[str] = []
    samples = read_samples(question, problems)
    if problems:
        return NoScan(tuple(problems))
    with recorded_construction() as construction:
        model, weights = built_module(question)
        model.eval()
    if question.weights is not None:
        stored = stored_arrays(Path(question.weights)).items()
        start = f"{weights['key']}." if isinstance(weights, dict) else ""
        load_weights(model, ((name[len(start) :], each.read()) for name, each in stored if name.startswith(start)))
    if samples:
        path = samples[0].path
        inputs = {
            key or "x": _Input(to_torch(array.read()), f"from {escape_path(path)}", _file_entry(path, key))
            for key, array in samples[0].arrays.items()
        }
    else:
        inputs = _drawn(model, question)
    scan = _Scan(construction, question.home)
    functions = observed_run(model, *_passed(model, inputs), scan.call)
    return ScannedModel(
        tuple(scan.configurations.values()),
        tuple(NotCovered(what, reason, tuple(paths)) for (what, reason), paths in scan.not_covered.items()),
        tuple(_grouped(functions)),
        tuple(f"{label} {each}" for label, each in inputs.items()),
        _whole(question, weights, inputs),
    )


# The inputs of the model


@dataclass(frozen=True, slots=True)
class _Input:
    tensor: torch.Tensor
    origin: str
    entry: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{str(self.tensor.dtype).removeprefix('torch.')}{list(self.tensor.shape)}, {self.origin}"


def _file_entry(path: Path, key: str) -> dict[str, Any]:
    return {"file": str(path)} | ({} if key == UNNAMED else {"key": key})


def _drawn(model: nn.Module, question: Question) -> dict[str, _Input]:
    """The first inputs that the model accepts, in the shapes that the user gave."""
    labels = labels_of(model)
    if unknown := [name for name in question.shapes if name not in labels]:
        labels = list(question.shapes)
        if len(labels) > 1 or unknown != ["x"]:
            labels_of_model = ", ".join(labels_of(model, 8)[:8])
            raise UsageError(f"--shape {unknown[0]}: no input has this name; the inputs are {labels_of_model}")
    given = {label: any_kind(shape) for label, shape in question.shapes.items()}
    guesses = accepted_inputs(question.reference, model, labels, given, GIVE_INPUTS)
    torch.manual_seed(0)
    return {label: _Input(guess.tensor(), _remark(guess), guess.spec_entry()) for label, guess in guesses.items()}


def _remark(guess: InputGuess) -> str:
    match guess.kind:
        case "integers":
            return f"drawn from 0 to {guess.limit - 1}"
        case "uniform":
            return "drawn from 0 to 1"
    return "drawn"


def _passed(model: nn.Module, inputs: Mapping[str, _Input]) -> tuple[Sequence[torch.Tensor], dict[str, torch.Tensor]]:
    """The inputs by position and by name: by name if each is a parameter of ``forward``."""
    import inspect

    tensors = {label: each.tensor for label, each in inputs.items()}
    parameters = inspect.signature(model.forward).parameters
    known = [label for label in tensors if label in parameters]
    if known and len(known) < len(tensors):
        raise UsageError(
            f"inputs: {', '.join(known)} must be bound by name, and the others are no parameters of "
            f"forward{inspect.signature(model.forward)}; name every input, or none"
        )
    return ([], tensors) if known else (list(tensors.values()), {})


def _whole(question: Question, weights: Weights, inputs: Mapping[str, _Input]) -> dict[str, Any]:
    """The case of the model itself."""
    case: dict[str, Any] = {"name": WHOLE, "about": "The whole model.", "factory": question.reference}
    if question.arguments:
        case["args"] = dict(question.arguments)
    if weights is not None:
        case["weights"] = weights
    return case | {"inputs": {label: dict(each.entry) for label, each in inputs.items()}}


# The layers


class _Scan:
    """Collects the configurations of layers during a run."""

    def __init__(self, construction: Construction, home: Path) -> None:
        self.configurations: dict[str, Configuration] = {}
        self.not_covered: dict[tuple[str, str], list[str]] = {}
        self._refused: dict[str, str] = {}
        self._construction, self._home = construction, home
        self._spelled: dict[int, Keys | str] = {}

    def call(
        self, layer: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]
    ) -> Any:
        """Run the call; count it, and try the case of a configuration that is new."""
        path = path or "the model itself"
        kind = type(layer).__name__
        try:
            case = layer_case(self._keys(layer), layer, args, kwargs)
        except NotSpelled as error:
            self.not_covered.setdefault((kind, str(error)), []).append(path)
            return run()
        known = self.configurations.get(case.configuration)
        if known is not None:
            known.paths.append(path)
            return run()
        if (reason := self._refused.get(case.configuration)) is not None:
            self.not_covered[kind, reason].append(path)
            return run()
        # A layer may change its inputs, and a later one its outputs.
        case = LayerCase(case.keys, {label: copy_tensor(tensor) for label, tensor in case.tensors.items()})
        returned = run()
        outputs = [leaf.clone() for leaf in pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
        if (reason := self._why_not_the_same(case, layer, outputs)) is None:
            self.configurations[case.configuration] = Configuration(kind, case.keys, [path])
        else:
            self._refused[case.configuration] = reason
            self.not_covered.setdefault((kind, reason), []).append(path)
        return returned

    def _keys(self, layer: nn.Module) -> Keys:
        """How a spec names the layer. Raises :class:`NotSpelled`."""
        if id(layer) not in self._spelled:
            try:
                self._spelled[id(layer)] = spelled(layer, self._construction, self._home)
            except NotSpelled as error:
                self._spelled[id(layer)] = str(error)
        found = self._spelled[id(layer)]
        if isinstance(found, str):
            raise NotSpelled(found)
        return found

    def _why_not_the_same(self, case: LayerCase, layer: nn.Module, outputs: Sequence[torch.Tensor]) -> str | None:
        """Why the case does not stand for the layer; None if the layer built from it answers the same."""
        if not outputs:
            return "it returns no tensor"
        try:
            answers = self._answers(case, layer)
        except SpecError as error:
            return f"a spec refuses the case: {str(error).partition(': ')[2] or error}"
        except Exception as error:  # noqa: BLE001 - a class that cannot be built again, or another forward
            from harness.check.stages import message_of

            return f"it cannot be built again: {message_of(error)}"
        same = len(answers) == len(outputs) and all(map(_is_close, answers, outputs))
        return None if same else "built again from its arguments, it gives other outputs"

    def _answers(self, case: LayerCase, layer: nn.Module) -> list[torch.Tensor]:
        """The outputs of the layer that the case describes, with the weights of ``layer``."""
        (resolved,) = cases_of({"harness": 1, "cases": [{"name": "layer", **case.keys}]}, "scan", self._home)
        built = build_module(resolved.model, resolved)
        prefix = "y." if "graph" in case.keys else ""
        load_weights(built, ((f"{prefix}{name}", to_numpy(tensor)) for name, tensor in layer.state_dict().items()))
        return eager_outputs(built, [case.tensors[spec.label] for spec in resolved.inputs], 0)


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other) or not one.numel():
        return True
    largest = float(other.detach().double().nan_to_num(posinf=0, neginf=0).abs().max())
    allowed = max(CLOSE, 4 * torch.finfo(one.dtype).eps) * largest if one.is_floating_point() else 0
    return bool(torch.allclose(one.double(), other.double(), rtol=0, atol=allowed, equal_nan=True))


def _grouped(calls: Sequence[FunctionCall]) -> Iterator[NotCovered]:
    """The calls of functions by name, each with its places, the most frequent first."""
    by_name: dict[str, list[FunctionCall]] = {}
    for call in calls:
        by_name.setdefault(call.name, []).append(call)
    for name, group in sorted(by_name.items(), key=lambda item: -len(item[1])):
        places = [f"{call.place}{f' in {call.path}' if call.path else ''}" for call in group]
        yield NotCovered(name, "a function, not a layer", tuple(places))
