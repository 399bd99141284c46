"""``harness explain``: find out why one check fails."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import (
    ALLOW_IMPORT,
    FOLDER,
    KNOWN_FAILURES,
    SECONDS,
    STRICT,
    STRICT_ULP,
    case_words,
    complete_word,
    single_target_words,
    timeout_option,
)
from harness.cli.process import echo
from harness.cli.reports import tell_incomplete
from harness.errors import RuntimeMissing, UsageError

if TYPE_CHECKING:
    from harness.report.json_report import Run
    from harness.spec.discovery import Specs
    from harness.spec.known_failures import KnownFailure

SCRIPTS_FOLDER = Path("reports/explain")
REPORT = "reports/latest/report.json"
UNSAFE_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")

EXAMPLES = """
\b
Examples:
  harness explain avgpool2d/notes-divisor-override --target onnx-dynamo@23/ort-cpu
  harness explain notes-divisor specs/ --target onnx-dynamo@23/ort-cpu -o issue.py
  harness explain --last                              the first failure of the last report
  harness explain 3                                   its third
"""


@click.command(epilog=EXAMPLES, short_help="Explain why a check fails, with a script that reproduces it.")
@click.argument("case", metavar="CASE|N", required=False, shell_complete=complete_word(case_words))
@click.argument("paths", nargs=-1, metavar="[PATH...]")
@click.option("--last", is_flag=True, help="The first failure of the last report; N is its N-th.")
@click.option(
    "--report",
    type=FOLDER,
    default=REPORT,
    show_default=True,
    metavar="FILE",
    help="Report that --last and N refer to.",
)
@click.option(
    "--target",
    shell_complete=complete_word(single_target_words),
    metavar="T",
    help="Target on which the case fails, as in --targets of run. [default: the case's only target]",
)
@click.option(
    "-o", "--output", type=FOLDER, metavar="FILE", help=f"File for the script. [default: {SCRIPTS_FOLDER}/CASE.py]"
)
@click.option(
    "--budget", type=SECONDS, default=30.0, show_default=True, metavar="S", help="Seconds for shrinking the case."
)
@timeout_option("Seconds per check.")
@click.option("--layers", is_flag=True, help="Compare every layer inside too, also where the outputs agree.")
@STRICT
@STRICT_ULP
@click.option("--private", is_flag=True, help="Show the failing nodes alone, and nothing else of the model.")
@click.option("--no-cache", is_flag=True, help="Explain again; neither read nor keep what was found out.")
@KNOWN_FAILURES
@ALLOW_IMPORT
def explain(
    case: str | None,
    paths: tuple[str, ...],
    last: bool,
    report: Path,
    target: str | None,
    output: Path | None,
    budget: float,
    timeout: float | None,
    layers: bool,
    strict: bool,
    strict_ulp: int | None,
    private: bool,
    no_cache: bool,
    known_failures: Path | None,
    allow_import: bool,
) -> int:
    """Explain why a check fails: the blame, the first node that differs, the smallest case, and a script to report it.

    CASE is an id, or a part that only one id contains. PATH is specs/ by default. With --last or a number, the report
    knows the case, its target and its specs, and --layers, --strict and --strict-ulp as its run had them. What was
    found out is kept, and shown again as long as nothing that it depends on has changed.

    Exits 0 if the check is as expected (it passes, or its failure is known), else 1; 3 if the runtime is not
    available on this machine.
    """
    from harness.explain.explanation import FAILING, NOT_SHRUNK, Explainer
    from harness.explain.failing_nodes import FailingNodes
    from harness.explain.kept import keep, kept_explanation, key_of, own_files
    from harness.explain.targets import choose_case, choose_target
    from harness.explain.text import explanation_lines, private_lines
    from harness.gate import final_result
    from harness.spec.discovery import load_specs

    if last or (case is not None and case.isdecimal() and not paths):
        case, specs, reported, run = _failure(report, "1" if last else str(case), allow_import=allow_import)
        target, layers, strict = target or reported, layers or run.layers, strict or run.strict
        strict_ulp = run.strict_ulp if strict_ulp is None else strict_ulp
    elif case is None:
        raise UsageError("name a case, or use --last for the first failure of the last report")
    else:
        specs = load_specs(paths or ("specs",), allow_import=allow_import)
    selected = choose_case(specs.cases, case)
    selected_target = choose_target(specs, selected, target)
    # The folder is handed over: its name must not be that of a private model.
    name = f"private {sha256(selected.id.encode()).hexdigest()[:8]}" if private else selected.id
    path = output or SCRIPTS_FOLDER / f"{UNSAFE_IN_FILE_NAMES.sub('-', name).strip('-')}.py"
    nodes = path.with_name(f"{path.stem}-nodes")
    known = _known_failures(specs, known_failures)
    listed = [entry for entry in known if entry.matches(selected.id, str(selected_target))]
    key = key_of(
        selected, selected_target, (listed, str(path.absolute()), budget, timeout, layers, strict_ulp, private)
    )
    if not no_cache and (kept := kept_explanation(key, nodes, own_files(path))) is not None:
        if kept.script is not None:
            _write(path, kept.script)
        echo(f"as explained on {kept.when}, since nothing has changed; --no-cache explains it again", error=True)
        for line in kept.lines:
            echo(line)
        return kept.code
    began = time.time()
    with Explainer(
        torch=not selected.is_recorded,
        timeout=timeout,
        budget=budget,
        report_step=_print_step,
        layers=layers,
        strict_ulp=strict_ulp,
    ) as explainer:
        explanation = explainer.explain(selected, selected_target, nodes, private=private)
        opened = explainer.opened_folders
    script = None if explanation.script is None else explanation.script.text
    if script is not None:
        _write(path, script)
    result = final_result(explanation.result, listed, strict=strict)
    lines = list(private_lines(explanation) if private else explanation_lines(explanation, result, path))
    for line in lines:
        echo(line)
    if result.status == "skipped":
        raise RuntimeMissing(result.message or f"{selected_target.runtime} is not available; see harness doctor")
    code = 0 if result.status in {"passed", "known"} else 1
    if not no_cache and explanation.result.status in FAILING and explanation.result.symptom not in NOT_SHRUNK:
        written = nodes if isinstance(explanation.nodes, FailingNodes) else None
        keep(
            key,
            selected,
            lines,
            script,
            code,
            opened=opened,
            nodes_folder=written,
            began=began,
            written=own_files(path),
        )
    return code


def _failure(path: Path, number: str, *, allow_import: bool) -> tuple[str, Specs, str, Run]:
    """The case, the specs, the target and the run of a failure in the report at ``path``; ``number`` counts from 1.

    Raises :class:`UsageError` if the report has fewer failures, or is not one of specs.
    """
    from harness.cli.compare import specs_of
    from harness.report.json_report import Run, read_report
    from harness.report.machines import without_machine
    from harness.report.wording import unexpected
    from harness.spec.discovery import load_specs
    from harness.spec.glob import path_and_case

    if not path.is_file():
        raise UsageError(f"--report {path}: no such file; harness run writes one")
    report = read_report(path)
    failures = unexpected(report.results)
    paths = tuple(map(str, report.run.get("paths", ())))
    tell_incomplete(path, report)
    if not 1 <= int(number) <= len(failures):
        how_many = f"{len(failures)} failures" if len(failures) != 1 else "1 failure"
        raise UsageError(
            f"{path} has {how_many}; name one of them, or a case" if failures else f"{path} has no failures"
        )
    compared = report.run.get("compared")  # by `harness compare`: the paths are both sides, and the spec is in no file
    named = paths if compared is None else paths[:1]
    if missing := [each for each in named if not path_and_case(each)[0].exists()]:
        advice = "run explain in the folder of that run, or name the case and its specs"
        raise UsageError(f"{path}: {missing[0]}: no such file or directory; {advice}")
    failure = failures[int(number) - 1]
    if compared is None:
        specs = load_specs(paths, allow_import=allow_import)
    else:
        specs = specs_of(compared, Path.cwd(), allow_import=allow_import)
    return failure.case, specs, without_machine(failure.target), Run.model_validate(report.run)


def _print_step(step: str) -> None:
    echo(f"{step} ...", error=True)


def _known_failures(specs: Specs, path: Path | None) -> list[KnownFailure]:
    """The known failures that apply to the installed versions."""
    from harness.spec.known_failures import load_known_failures

    return [entry for entry in load_known_failures(path or specs.known_failures) if entry.applies(specs.versions)]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror}; choose a file that can be written") from error


COMMANDS = (explain,)
