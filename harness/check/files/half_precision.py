"""A file in float16 or bfloat16 against a reference in float32, or the other way round: noted, and judged as such.

The outputs of the 16-bit side are widened, which changes no value, and compared in float32. The file is then held to
what the precision allows: a multiple of the error that the reference itself has in it. So is a file whose reference
got its weights from a checkpoint in 16 bits: the file may have those from before that rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.files.matching import MatchedOutputs
from harness.check.files.signatures import FileSignature, floating_of
from harness.check.judging.lower_precision import HALF_PRECISION
from harness.data_files import pick, stored_arrays
from harness.model.answer import Reference
from harness.spec.language.case import Case
from harness.spec.language.tolerances import Calibrated, OneRule, Tolerance

Answer = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """Where the file and the reference compute in different floating dtypes, one of them of 16 bits.

    ``precision`` is that dtype, None if both are alike. ``narrow`` are the outputs that the file gives in it, ``wide``
    those that only the reference does, by the file's names. ``notes`` say so.
    """

    precision: str | None = None
    narrow: Mapping[str, str] = field(default_factory=dict)
    wide: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def adapted(self, reference: Reference) -> Reference:
        """``reference``, under the file's names, with 16-bit outputs widened where the file gives float32.

        What a reference computes in its own dtype is its run in lower precision.
        """
        if not self.wide:
            return replace(reference, narrow=self.narrow) if self.narrow else reference
        lower = {name: values.astype(np.float64) for name, values in reference.eager.items()}
        return replace(reference, eager=self._widened(reference.eager), lower=lower, narrow=self.narrow)

    def tolerance(self, tolerance: Tolerance) -> Tolerance:
        """``tolerance`` with calibrated rules in the lower precision."""
        return tolerance if self.precision is None else tolerance.map(self._in_precision)

    def _in_precision(self, rule: OneRule) -> OneRule:
        return replace(rule, precision=self.precision) if isinstance(rule, Calibrated) else rule

    def _widened(self, answer: Answer) -> dict[str, NDArray[Any]]:
        return {name: each.astype(np.float32) if name in self.wide else each for name, each in answer.items()}


def half_precision_inside(signature: FileSignature) -> str | None:
    """The 16-bit dtype that a file computes in although its outputs are wider; None if there is none."""
    floating = signature.floating
    outputs = {each.dtype.name for each in signature.outputs or () if each.dtype is not None}
    return floating.name if floating is not None and floating.name in HALF_PRECISION - outputs else None


def _floating_of(reference: Any) -> str | None:
    """The dtype of the weights of a reference, None if it is not known."""
    source = getattr(reference, "signature", None) or getattr(reference, "subject", None)
    if source is None:
        return None
    floating = source.floating if isinstance(source, FileSignature) else floating_of(source.module)
    return None if floating is None else floating.name


def stored_precision(case: Case) -> str | None:
    """The 16-bit dtype in which the file of all weights of ``case`` stores most of them; None if there is none."""
    elements: dict[str, int] = {}
    for spec in case.model.weights.values() if case.model.weights_file else ():
        if spec.source is not None:
            path = Path(spec.source.path)
            stored = pick(stored_arrays(path), spec.source.key, path)
            elements[stored.dtype.name] = elements.get(stored.dtype.name, 0) + prod(stored.shape)
    most = max(elements, key=lambda each: elements[each], default="")
    return most if most in HALF_PRECISION else None


def mixed_precision(signature: FileSignature, outputs: MatchedOutputs, reference: Any, file: str) -> MixedPrecision:
    """How the file's floating dtypes differ from those of the ``reference``, whose answers are under its own names."""
    answer, reference_floating = reference.references[0].eager, _floating_of(reference)
    declared = {each.name: each.dtype for each in signature.outputs or ()}
    narrow: dict[str, str] = {}
    wide: set[str] = set()
    notes: list[str] = []
    for name, own in outputs.reference.items():
        dtype = declared.get(name) or signature.floating
        if own is None or own not in answer or dtype is None:
            continue
        of_file, of_reference = dtype.name, answer[own].dtype.name
        if of_file in HALF_PRECISION and of_reference == "float32":
            narrow[name] = of_file
        elif of_reference in HALF_PRECISION and of_file == "float32" and name in declared:
            wide.add(name)
        else:
            continue
        half = of_file if name in narrow else of_reference
        notes.append(
            f"{name} is {of_file} in {file} and {of_reference} in the reference; it is compared in float32 and judged "
            f"as {half}"
        )
    precision = next(iter(narrow.values()), None)
    if wide:
        precision = next(values.dtype.name for values in answer.values() if values.dtype.name in HALF_PRECISION)
    inside = None if signature.floating is None else signature.floating.name
    if precision is None and inside in HALF_PRECISION and reference_floating not in HALF_PRECISION:
        precision = inside
        notes.append(f"{file} computes in {inside}, and the reference does not; it is judged as {inside}")
    if precision is None and reference_floating in HALF_PRECISION and inside in {"float32", "float64"}:
        notes.append(
            f"the reference computes in {reference_floating}, and {file} does not; it is judged as {reference_floating}"
        )
    stored = None if reference_floating in HALF_PRECISION else stored_precision(reference.case)
    if stored is not None:
        judged = "" if precision is not None else f"; {file} is judged as {stored}"
        precision = precision or stored
        kept = Path(reference.case.model.weights_file).name
        notes.append(f"the weights in {kept} are {stored}, the module's are {reference_floating}{judged}")
    return MixedPrecision(precision, narrow, frozenset(wide), tuple(notes))
