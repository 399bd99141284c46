"""Why some checks have no script of their own."""

from __future__ import annotations

from harness.reproduction.calls import RUNTIMES
from harness.result import Result
from harness.spec.case import Case, FactoryModel, FileModel, PackedModel
from harness.spec.target import Target

OF_THE_MACHINE = frozenset({"timeout", "out-of-memory", "unavailable", "placement"})


def obstacle(case: Case, target: Target, result: Result | None = None) -> str | None:
    """What keeps a self-contained script from showing the failure; None where nothing does.

    ``result`` is what the check came to, where that is known.
    """
    match case.model.model:
        case FactoryModel(factory):
            return f"the model is made by {factory}, which is not public"
        case FileModel() | PackedModel():
            return "the model is a file that cannot be written into a script"
    if target.fixes:
        return "the corrected lowerings are harness's own, and a script for others does without harness"
    if target.runtime not in RUNTIMES:
        return f"a script knows {', '.join(RUNTIMES)} and not {target.runtime}"
    if result is None:
        return None
    if result.symptom in OF_THE_MACHINE:
        return f"{result.symptom} depends on this machine and its limits"
    if result.blame == "spec":
        return "the spec expects something else than PyTorch answers; there is nothing to report to others"
    if result.blame == "torch":
        return "PyTorch itself is off the definition, before anything is exported"
    return None
