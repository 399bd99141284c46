"""``harness.verify``: a module that is at hand, taken to the targets that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.answers import Verified
from harness.api.tolerances import unscaled
from harness.errors import UsageError
from harness.gate import expected
from harness.spec.target import FILE, Target
from harness.spec.targets import BUILT_IN, TargetSets, parse_target


def verify(
    module: Any,
    inputs: Any,
    targets: str | Sequence[str],
    *,
    tolerance: Any,
    dynamic: Mapping[str, Mapping[int, str]] | None,
    also: Sequence[Any],
) -> Verified:
    """See :func:`harness.api.verify`."""
    from harness.verify.given import check_given
    from harness.verify.opsets import check_opsets

    chosen = _targets(targets)
    check_opsets(chosen)
    results = check_given(module, [inputs, *also], chosen, unscaled(tolerance), dynamic or {})
    return Verified(tuple(expected(result, ()) for result in results))


def _targets(words: str | Sequence[str]) -> tuple[Target, ...]:
    """The targets that ``words`` name, as on the command line where there is no ``targets.yaml``."""
    sets = TargetSets({name: tuple(map(parse_target, targets)) for name, targets in BUILT_IN.items()})
    chosen = sets.select((words,) if isinstance(words, str) else tuple(words))
    for target in chosen:
        if target.exporter == FILE:
            raise UsageError(f"targets: {target} takes a file; name an exporter, such as onnx-dynamo@23/ort-cpu")
    return chosen
