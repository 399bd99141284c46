"""What a spec says under ``expect``, with its tensors filled and its other models built and asked."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from harness.model.build import answers, module_of
from harness.model.layers import arguments
from harness.model.subject import Subject
from harness.model.tensors import to_numpy
from harness.spec.case import Case, LayerModel, WeightedModel
from harness.spec.fill import array
from harness.verify.expected import Expected, wide

Array = NDArray[Any]


def expected_of(case: Case, subject: Subject) -> Expected:
    """What must hold of the case, as arrays."""
    expect = case.expect
    outputs = (
        None if expect.outputs is None else {f"output_{at}": array(spec) for at, spec in enumerate(expect.outputs)}
    )
    return Expected(
        first=case.inputs[0].label if case.inputs else None,
        outputs=outputs,
        shape=expect.shape,
        range=expect.range,
        formula=expect.formula,
        gradient=expect.gradient,
        gradient_range=expect.gradient_range,
        equals=None if expect.equals is None else _of(expect.equals, case, subject),
        differs_from=None if expect.differs_from is None else _of(expect.differs_from, case, subject),
        names=_names(case, subject),
    )


def _names(case: Case, subject: Subject) -> dict[str, Any]:
    """The layer's arguments, and the parameters and buffers of the module."""
    model = case.model.model
    known: dict[str, Any] = arguments(model) if isinstance(model, LayerModel) else {}
    held = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    return known | {name.removeprefix("layer."): wide(to_numpy(tensor.detach())) for name, tensor in held.items()}


def _of(other: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    module = module_of(other, case, list(subject.inputs))
    outputs = answers(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}
