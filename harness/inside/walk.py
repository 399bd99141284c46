"""What torch's own leaf modules answered, one after another, while eager torch ran.

Walks a graph node by node, to where it first leaves the right path.

Every value that a node computes is given out, with graph optimization off, and held against the graph's own evaluation
in float64, which finds a node that computes something else than ONNX defines. What is written wrongly is found in
float64 on both sides, where rounding vanishes: the graph's evaluation against what torch's modules answer in float64.
Where that finds nothing, or cannot be, what was computed is held against torch's modules in their own dtypes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto
from torch import nn
from torch.utils import _pytree as pytree

from harness.blame.file_evaluation import evaluate_all
from harness.exporters import Artifact
from harness.inside.divergence import (
    Divergence,
    ModuleCall,
    ValueDifference,
    Walk,
    computed_off,
    element_off,
    written_off,
)
from harness.inside.matching import FOLDED, Match, described, folded_away, giving_all, matched, owner, read
from harness.model.build import Subject
from harness.model.tensors import to_numpy, to_torch
from harness.onnx_arrays import to_array
from harness.registry import plugins
from harness.spec.targets import Target

if TYPE_CHECKING:
    from typing_extensions import Self

    from harness.model.answer import Reference
    from harness.model.build import Subject


Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TorchSide:
    """Torch's calls in their own dtypes, and in float64; ``wide`` is None where the model does not run in float64."""

    calls: Sequence[ModuleCall]
    wide: Sequence[ModuleCall] | None

    @classmethod
    def of(cls, subject: Subject, inputs: Mapping[str, Array]) -> Self:
        """What the modules of ``subject`` answer to ``inputs``."""
        given = [to_torch(array) for array in inputs.values()]
        return cls(module_calls(subject.module, given), _wide_calls(subject.module, given))


def module_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall]:
    """Every call of a module without children, in the order of the calls; neither module nor inputs are changed."""
    calls: list[ModuleCall] = []
    module = copy.deepcopy(module)
    for path, inner in module.named_modules():
        if not any(inner.children()):
            inner.register_forward_hook(_recorder(path, calls))
    with torch.no_grad():
        module(*copy.deepcopy(tuple(inputs)))
    return calls


def _wide_calls(module: nn.Module, inputs: Sequence[torch.Tensor]) -> list[ModuleCall] | None:
    wide = [each.double() if each.is_floating_point() else each for each in inputs]
    try:
        return module_calls(copy.deepcopy(module).double(), wide)
    except (RuntimeError, NotImplementedError):  # a kernel or a constant of the model that is in float32 alone
        return None


def _recorder(path: str, calls: list[ModuleCall]) -> Any:
    def record(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        calls.append(ModuleCall(path, type(module).__name__, tuple(map(to_numpy, leaves))))

    return record


Judge = Callable[[str, Array, Array], ValueDifference | None]


def walk(subject: Subject, artifact: Artifact, target: Target, references: Sequence[Reference], scratch: Path) -> Walk:
    """The walk at the first of ``references`` where the target diverges; at the case's own shapes if it never does."""
    given = [reference.inputs for reference in references]
    return _first_off(_walk(TorchSide.of(subject, inputs), artifact, target, inputs, scratch) for inputs in given)


def walk_file(artifact: Artifact, target: Target, given: Sequence[Mapping[str, Array]], scratch: Path) -> Walk:
    """The same for a file that was not exported here, which has no torch beside it; ``given`` are sets of inputs."""
    return _first_off(_walk(None, artifact, target, inputs, scratch) for inputs in given)


def _first_off(walks: Iterator[Walk]) -> Walk:
    first = next(walks)
    return first if first.kernel or first.module else next((one for one in walks if one.kernel or one.module), first)


def _walk(
    torch: TorchSide | None, artifact: Artifact, target: Target, inputs: Mapping[str, Array], scratch: Path
) -> Walk:
    model = read(artifact.path)
    given = _values(giving_all(model), artifact, target, inputs, scratch)
    truth, note = _truth(artifact.path, inputs)
    held = {**{value.name: to_array(value) for value in model.graph.initializer}, **given, **inputs}
    calls = () if torch is None else torch.calls
    pairs = _by_value(model.graph, given, calls)
    return Walk(
        nodes=sum(node.op_type not in FOLDED for node in model.graph.node),
        kernel=_View(model.graph, held, calls, {}).first(given, truth, computed_off),
        module=None if torch is None else _beside(torch, model.graph, held, truth, given),
        matched=len({id(pair.call) for pair in pairs.values()}),
        modules=len(calls),
        note=note,
    )


def _beside(
    torch: TorchSide,
    graph: GraphProto,
    held: Mapping[str, Array],
    truth: Mapping[str, Array],
    given: Mapping[str, Array],
) -> Divergence | None:
    """The first node that gives something else than torch's module: as it is written, else as it is computed."""
    if truth and torch.wide is not None:
        pairs = _by_value(graph, truth, torch.wide)
        view, expected = _View(graph, held, torch.wide, pairs), _expected(pairs)
        folded = folded_away(truth, torch.wide, pairs.values())
        for judge in (written_off,) if folded else (written_off, element_off):
            if (found := view.first(truth, expected, judge)) is not None:
                return found
    pairs = _by_value(graph, given, torch.calls)
    return _View(graph, held, torch.calls, pairs).first(given, _expected(pairs), computed_off)


def _by_value(graph: GraphProto, values: Mapping[str, Array], calls: Sequence[ModuleCall]) -> dict[str, Match]:
    return {pair.value: pair for pair in matched(graph, values, calls)}


def _expected(pairs: Mapping[str, Match]) -> dict[str, Array]:
    return {name: pair.expected for name, pair in pairs.items()}


def _values(
    opened: onnx.ModelProto, artifact: Artifact, target: Target, inputs: Mapping[str, Array], scratch: Path
) -> dict[str, Array]:
    """Every value of the graph, as the target's runtime computes it without optimization."""
    path = scratch / "every-value.onnx"
    onnx.save(opened, str(path))
    runtime = plugins("runtimes")[target.runtime]
    plain = {"optimization": "disabled"} if "optimization" in runtime.options else {}
    session = runtime.load(replace(artifact, path=path), {**target.options, **plain})
    try:
        return dict(session.run(inputs))
    finally:
        session.close()


def _truth(path: Path, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str | None]:
    """Every value in float64; without them, why there are none."""
    try:
        return evaluate_all(path, inputs), None
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told
        said = str(error).splitlines()[0] if str(error) else "no message"
        return {}, f"the graph could not be evaluated in float64: {type(error).__name__}: {said}"


@dataclass(frozen=True, slots=True)
class _View:
    """The graph with what its values held, torch's calls beside it, and the values that stand for their outputs."""

    graph: GraphProto
    held: Mapping[str, Array]
    calls: Sequence[ModuleCall]
    pairs: Mapping[str, Match]

    def first(self, actual: Mapping[str, Array], expected: Mapping[str, Array], judge: Judge) -> Divergence | None:
        """The first node off ``expected`` by more than rounding; else the first that is off at all."""
        by_rounding: Divergence | None = None
        for node in self.graph.node:
            for name in node.output:
                if name not in expected or name not in actual or node.op_type in FOLDED:
                    continue
                off = judge(name, actual[name], expected[name])
                if off is None or (by_rounding is not None and off.rounding):
                    continue
                found = self._told(node, name, off)
                if not off.rounding:
                    return found
                by_rounding = found
        return by_rounding

    def _told(self, node: NodeProto, name: str, off: ValueDifference) -> Divergence:
        pair = self.pairs.get(name)
        call = pair.call if pair is not None else owner(node, self.calls)
        own = [other for other in self.graph.node if call is not None and owner(other, self.calls) is call]
        siblings = [described(other, self.held) for other in own if other.op_type not in FOLDED]
        return Divergence(
            node=described(node, self.held),
            value=name,
            difference=off.how,
            module=None if call is None else str(call),
            siblings=tuple(siblings) if len(siblings) > 1 else (),
            rounding=off.rounding,
            how=None if pair is None else pair.how,
        )
