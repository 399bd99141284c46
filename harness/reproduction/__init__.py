"""One self-contained script for a check that fails: torch, onnx, onnxruntime and numpy, and nothing of harness.

It exports the model, asks eager torch and the target, prints the versions and both answers, and exits with 1 while
they disagree or a stage fails. It reads as the beginning of an upstream issue.

A failing case as the text of a script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from math import isfinite
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from harness.reproduction.eligibility import dtypes, expected, obstacle, title
from harness.reproduction.source import exporting, loading, module, weight_name
from harness.reproduction.tensors import bounds, kinds, tensor
from harness.result import Result
from harness.spec.language.case import Case, InputSet
from harness.spec.language.tolerances import Tolerance
from harness.spec.targets import Target

if TYPE_CHECKING:
    from jinja2 import Template

    from harness.model.answer import Reference


__all__ = ["obstacle", "reproduction"]


WIDTH = 110
FAULT = "the fault is there"
NO_FAULT = "no fault"
"""How the script's last line begins."""


def reproduction(
    case: Case, target: Target, result: Result | None = None, ask: Callable[[], Reference] | None = None
) -> str | None:
    """The script for ``case`` on ``target``; None where :func:`harness.reproduction.eligibility` says that there is none.

    ``result`` is what the check came to; with it the text names what fails and what was seen. ``ask`` gives what eager
    torch and the definition say of the case; where it is None, they are asked here. The layers' own tolerances are
    asked for, which loads torch.
    """
    if obstacle(case, target, result) is not None:
        return None
    from harness.model.reference import tolerance_of

    answerable = case.expect.raises is None and (result is None or result.stage != "build")
    reference = (ask() if ask else _asked(case)) if answerable else None
    return _template().render(_context(case, target, result, tolerance_of(case, target.opset), reference))


def _context(
    case: Case, target: Target, result: Result | None, tolerance: Tolerance, reference: Reference | None
) -> Mapping[str, Any]:
    model = module(case.model.model, [spec.label for spec in case.inputs])
    weights = {weight_name(case.model.model, name): spec for name, spec in case.model.weights.items()}
    shapes = [each.inputs for each in _needed_sets(case, result)]
    known = [spec for specs in shapes for spec in specs]
    rules = bounds(tolerance, case.dtype, _largest(reference))
    seen = None if result is None else result.message
    return {
        "title": wrap(title(case, target, result), WIDTH),
        "expected": wrap(f"Expected: {expected(case, result)}", WIDTH),
        "actual": wrap(f"Actual: {seen}", WIDTH) if seen else [],
        "definition": model.definition,
        "call": model.call,
        "seed": case.seed,
        "dtype": case.dtype,
        "mode": case.mode,
        "weights": {name: tensor(spec) for name, spec in weights.items()},
        "inputs": [[tensor(spec) for spec in specs] for specs in shapes],
        "draws": kinds([*known, *weights.values()]),
        "exporting": exporting(case, target, _outputs(result)),
        "loading": loading(target, bfloat16="bfloat16" in dtypes(case)),
        "runtime": target.runtime,
        "bfloat16": "bfloat16" in dtypes(case),
        "drawn": reference is not None and reference.stochastic,
        "onnx": target.exporter.startswith("onnx-"),
        "rtol_atol": rules.pop(None),
        "by_output": rules,
        "raises": case.expect.raises,
        "FAULT": FAULT,
        "NO_FAULT": NO_FAULT,
    }


def _asked(case: Case) -> Reference:
    """What eager torch and the definition say."""
    from harness.model.build import build
    from harness.model.reference import compute_reference

    subject = build(case)
    return compute_reference(case, subject, subject.inputs)


def _needed_sets(case: Case, result: Result | None) -> list[InputSet]:
    """The sets of inputs that the script runs: one at each shape, and all where only a further draw fails."""
    sets = case.input_sets
    draws = result is not None and any(
        output.problem and output.at and "draw" in output.at for output in result.outputs
    )
    return [each for each in sets if draws or each.draw == 1]


def _largest(reference: Reference | None) -> list[float | None]:
    """The largest sum of terms' magnitudes of each output, None where there is no finite one."""
    known = () if reference is None else reference.magnitudes
    largest = [None if each is None or not each.size else float(each.max()) for each in known]
    return [each if each is not None and isfinite(each) else None for each in largest]


def _outputs(result: Result | None) -> int | None:
    """How many outputs the model has; None where it is not known. At several shapes each is seen several times."""
    return len({output.index for output in result.outputs}) or None if result else None


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Python source is written here, not a page: there is nothing to escape.
    environment = Environment(
        loader=PackageLoader("harness.reproduction", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    return environment.get_template("script.py.j2")
