"""A check of a request that needs torch, made before anything runs: whether weights fit their model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection

from harness.engine.processes.exits import become_subreaper, kill_descendants_of
from harness.engine.processes.fork_server import start_server
from harness.engine.processes.limits import die_with_parent
from harness.errors import Problem, SpecError, UsageError
from harness.spec.language.case import Case, WeightedModel
from harness.spec.language.inputs.tensors import problem_from

SECONDS = 60.0
"""How long the models may take to be built. What takes longer shows in the rows of the checks."""


def require_fitting_weights(cases: Iterable[Case], *, exporting: bool = True) -> None:
    """Check that each weights file of ``cases`` has all names of its model in their shapes, and no others.

    Each model is built once, in a separate process, without values. The checks report a model that cannot be built so,
    and all models if torch is not installed. ``exporting`` is False if no run follows in this process. Raises
    :class:`SpecError` with every case that has a wrong file.
    """
    named = [case for case in cases if any(model.weights_file for model in _models(case))]
    if not named or find_spec("torch") is None:
        return
    context = start_server(torch=True, exporting=exporting)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_problems, args=(sender, named), daemon=True)
    process.start()
    sender.close()
    try:
        problems = _received(receiver)
    finally:
        process.kill()
        process.join()
        if process.pid is not None:
            kill_descendants_of(process.pid)
        process.close()
    if problems:
        raise SpecError(problems)


def _received(receiver: Connection) -> Sequence[Problem]:
    with receiver, suppress(EOFError, ConnectionResetError):  # what ends this process ends the workers of the checks
        if receiver.poll(SECONDS):
            problems: Sequence[Problem] = receiver.recv()
            return problems
    return ()


def _models(case: Case) -> list[WeightedModel]:
    return [each for each in (case.model, case.expect.equals, case.expect.differs_from) if each is not None]


def _send_problems(sender: Connection, cases: Sequence[Case]) -> None:
    """Send the problems of ``cases``. The process that has torch runs this."""
    from harness.model.build import require_weights_of_file

    die_with_parent()
    become_subreaper()
    errors: dict[str, UsageError | None] = {}  # most cases of a matrix have the same model
    problems = []
    for case in cases:
        for model in _models(case):
            key = repr((model, case.arguments))
            if key not in errors:
                errors[key] = None
                try:
                    require_weights_of_file(model, case)
                except UsageError as error:
                    errors[key] = error
            if (unfit := errors[key]) is not None:
                problems.append(problem_from(unfit, case.where))
    sender.send(problems)
