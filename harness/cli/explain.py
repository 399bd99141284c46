"""``harness explain``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import ALLOW_IMPORT, FOLDER, SECONDS, cases, single_targets, words
from harness.cli.process import say
from harness.errors import RuntimeMissing, UsageError

if TYPE_CHECKING:
    from harness.result import Result
    from harness.spec.discovery import Specs

FOLDER_OF_SCRIPTS = Path("reports/explain")
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

EXAMPLES = """
\b
Examples:
  harness explain avgpool2d/notes-divisor-override --target onnx-dynamo@23/ort-cpu
  harness explain notes-divisor specs/ --target onnx-dynamo@23/ort-cpu -o issue.py
"""


@click.command(epilog=EXAMPLES, short_help="Say why a check fails, with a script that shows it.")
@click.argument("case", metavar="CASE", shell_complete=words(cases))
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option(
    "--target",
    shell_complete=words(single_targets),
    metavar="T",
    help="Where the case fails: EXPORTER[@OPSET][+fixes]/RUNTIME. [default: the case's, where it has only one]",
)
@click.option(
    "-o", "--output", type=FOLDER, metavar="FILE", help=f"Where the script goes. [default: {FOLDER_OF_SCRIPTS}/CASE.py]"
)
@click.option(
    "--budget", type=SECONDS, default=30.0, show_default=True, metavar="S", help="Seconds for shrinking the case."
)
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="S", help="Seconds a check may take."
)
@click.option("--known-failures", type=FOLDER, metavar="FILE", help="[default: known-failures.yaml beside the specs]")
@ALLOW_IMPORT
def explain(
    case: str,
    paths: tuple[str, ...],
    target: str | None,
    output: Path | None,
    budget: float,
    timeout: float,
    known_failures: Path | None,
    allow_import: bool,
) -> int:
    """Say why a check fails: who is to blame, where it begins, the smallest case, and a script for an upstream issue.

    CASE is an id, or a part of one that no other has; PATH is specs/ where none is given. Exits 0 where the check is as
    expected (it passes, or its failure is known), else 1; 3 where the runtime is not on this machine.
    """
    from harness.explain.explanation import Explainer, choose_case, choose_target
    from harness.explain.text import lines
    from harness.spec.discovery import load

    specs = load(paths or ("specs",), allow_import=allow_import)
    chosen = choose_case(specs.cases, case)
    taken_to = choose_target(specs, chosen, target)
    place = output or FOLDER_OF_SCRIPTS / f"{UNSAFE.sub('-', chosen.id).strip('-')}.py"
    with Explainer(torch=not chosen.is_recorded, timeout=timeout, budget=budget, tell=_tell) as explainer:
        told = explainer.explain(chosen, taken_to)
    if told.script is not None:
        _write(place, told.script.text)
    judged = _judged(told.result, specs, known_failures)
    for line in lines(told, judged, place):
        say(line)
    if judged.status == "skipped":
        raise RuntimeMissing(judged.message or f"{taken_to.runtime} is not here; harness doctor says what is")
    return 0 if judged.status in {"passed", "known"} else 1


def _tell(what: str) -> None:
    say(f"{what} ...", error=True)


def _judged(result: Result, specs: Specs, known_failures: Path | None) -> Result:
    """``result`` with its final status by the known failures."""
    from harness.gate import expected
    from harness.spec.known_failures import load_known_failures

    known = load_known_failures(known_failures or specs.known_failures)
    applicable = [entry for entry in known if entry.applies(specs.versions)]
    return expected(result, [entry for entry in applicable if entry.matches(result.case, result.target)])


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {place}: {error.strerror}; name a file that can be written") from error


COMMANDS = (explain,)
