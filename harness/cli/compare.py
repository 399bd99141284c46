"""``harness compare``: is a model file still another model? One screen, no spec."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.option_values import NEITHER, is_callable_name, read_arguments, read_shapes, read_tolerance
from harness.cli.options import (
    FOLDER,
    REPORT_DIR,
    WholeNumber,
    WordList,
    complete_list,
    flat,
    runtime_words,
    timeout_option,
)
from harness.cli.process import echo
from harness.errors import HarnessError, Location, Mistakes, RuntimeMissing, SpecError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.pipeline import Outcome
    from harness.result import Result
    from harness.scaffold.comparison import ComparisonSpec, Question
    from harness.spec.discovery import Specs
    from harness.spec.language.case import StoredModel

EXAMPLES = """
\b
Examples:
  harness compare model.onnx net.py:Net --weights net.pt        an export and its module
  harness compare model_fp16.onnx model.onnx                    a file and another file
  harness compare model.ort model.onnx --inputs samples/        on your own data
  harness compare model.onnx net.py:Net --shape x=1,3,224,224 --targets ort-cpu,openvino
"""
INSPECT_SECONDS = 300.0
GIVE_INPUTS = "give inputs that the reference takes: --inputs FILE, or --shape NAME=1,3,224,224"
GIVE_REPEATABLE = "name a reference that answers the same at each call, or state in a spec what holds of its outputs"
GIVE_FINITE = "give inputs for which the outputs are numbers: --inputs FILE"


@click.command(epilog=EXAMPLES, short_help="Is a model file still another model?")
@click.argument("subject", metavar="SUBJECT")
@click.argument("reference", metavar="REFERENCE")
@click.option("--inputs", multiple=True, metavar="FILE|DIR", help="Data file, or folder with one for each sample.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,224,224", help="Shape of a drawn input.")
@click.option(
    "--targets",
    multiple=True,
    type=WordList(),
    shell_complete=complete_list(runtime_words),
    metavar="LIST",
    help="Runtimes for SUBJECT. [default: ort-cpu, or the one for its format]",
)
@click.option("--tolerance", metavar="RULE", help="In YAML, as in a spec: exact, or {rtol: 1e-3, atol: 1e-5}.")
@click.option("--args", "arguments", metavar="YAML", help="Arguments of a callable, such as '{classes: 10}'.")
@click.option(
    "--weights", metavar="FILE", help="All weights of a callable's module: .pt, a checkpoint, or .safetensors."
)
@click.option(
    "--loop", multiple=True, metavar="OUT=IN", help="Output, by name or number, that feeds an input: a state."
)
@click.option("--steps", type=WholeNumber(2, 1000), metavar="N", help="Steps with --loop. [default: 4]")
@click.option("--layers", is_flag=True, help="Compare every layer inside too; a wrong layer fails its check.")
@click.option("--save-spec", type=FOLDER, metavar="FILE", help="Write a spec of this comparison, for harness run.")
@REPORT_DIR
@timeout_option("Seconds per check.")
def compare(subject: str, reference: str, **options: Any) -> int:
    """Compare the model file SUBJECT with REFERENCE, a model file or a callable that returns an nn.Module.

    Model files are .onnx, .ort, TorchScript (.pt, .pth, .jit, .ts) and .pt2. A callable is named as
    path/to/file.py:callable or package.module:callable. Naming a callable or TorchScript runs its code.

    Without --inputs, inputs are drawn in the declared shapes and dtypes.
    """
    _start_loading(subject, reference)
    from harness.check.settings import Settings, cache_folder, with_time_limit
    from harness.compare.inconclusive import training_words
    from harness.pipeline import Request
    from harness.pipeline import run as run_pipeline
    from harness.report.comparison import anything_compared, comparison_lines, nothing_compared
    from harness.report.terminal import Progress
    from harness.scaffold.comparison import SUBJECT
    from harness.spec.model_files import stored_model
    from harness.spec.targets.sets import targets_on

    question = _question(subject, reference, options)
    runtimes = flat(options["targets"])
    words = targets_on(SUBJECT, stored_model(Path(subject)), runtimes) if runtimes else ()
    _require_torch(question)
    comparison = _comparison(question, options["timeout"] or INSPECT_SECONDS)
    specs = _specs(comparison, question)
    saved = options["save_spec"]
    if saved is not None:
        specs = _save(comparison, question, saved, words, layers=options["layers"])
    request = Request(
        paths=(str(saved),) if saved is not None else (subject, reference),
        targets=words or ("default",),
        report_dir=options["report_dir"],
        formats=("json", "md", "html"),
        allow_import=True,
        settings=with_time_limit(Settings(cache=cache_folder(), layers=options["layers"]), options["timeout"]),
        compared=comparison.spec if saved is None else None,
    )
    try:
        outcome = run_pipeline(request, Progress(), specs)
    except HarnessError:
        if saved is not None:  # the corrected command writes it
            saved.unlink(missing_ok=True)
        raise
    if nothing_compared(outcome.report):
        advice = [_what_to_give(outcome.report.results, comparison.spec["cases"][0]["inputs"])]
        if saved is not None:
            saved.unlink()
            advice.append(f"{saved} is not written: nothing was compared")
            saved = None
    elif saved is None and not anything_compared(outcome.report):
        advice = []  # the screen says what is missing or what failed; there is no answer yet that CI could keep
    else:
        advice = _advice(outcome, specs, saved, options["report_dir"], runs_code=_runs_code(question))
    in_evaluation = f"compared in evaluation mode: {reference} returned a module in training mode"
    notes = [in_evaluation] if comparison.in_training and not any(map(training_words, outcome.report.results)) else []
    notes += [f"exit code 1: {line}" for line in outcome.report.run["complaints"]]
    if isinstance(weights := comparison.spec["cases"][0].get("weights"), dict):
        notes.append(f"the weights are the part {weights['key']} of {weights['file']}")
    for line in comparison_lines(outcome.report, subject, reference, comparison.inputs, advice, notes):
        echo(line)
    echo(f"Written: {', '.join(map(str, [*([saved] if saved else []), *outcome.files]))}")
    return _exit_code(outcome.exit_code, compared=anything_compared(outcome.report))


def _start_loading(subject: str, reference: str) -> None:
    """Let the fork server load the libraries while this process loads its own; the names show which are needed."""
    from importlib.util import find_spec

    from harness.engine.processes.fork_server import start_server

    torch = not _are_onnx(subject, reference)
    if Path(subject).is_file() and (not torch or find_spec("torch") is not None):
        start_server(torch=torch, exporting=False)


def _exit_code(code: int, *, compared: bool) -> int:
    """The exit code of a run: 1 would say that SUBJECT is not REFERENCE, which no comparison has shown."""
    return UsageError.exit_code if not compared and code < RuntimeMissing.exit_code else code


def _what_to_give(results: Sequence[Result], inputs: Mapping[str, Any]) -> str:
    """The advice where nothing was compared at ``inputs``, as the spec has them."""
    from harness.report.comparison import has_no_number, is_random

    for option in ("tolerance", "weights", "loop"):
        if any(result.stage == "build" and (result.message or "").startswith(f"{option}:") for result in results):
            return f"correct --{option}"
    if any("keeps its data in" in (result.message or "") for result in results):
        return "copy the files again, with their external data"
    for is_so, advice in ((is_random, GIVE_REPEATABLE), (has_no_number, GIVE_FINITE)):
        if any(map(is_so, results)):
            return advice
    for name, entry in inputs.items():
        shape: list[int] = entry.get("shape", []) if isinstance(entry, dict) else []
        if len(shape) == 4 and shape[-1] < min(shape[1:3]):  # as a file has it that takes the channels last
            batch, height, width, channels = shape
            return f"{GIVE_INPUTS} (channels first: --shape {name}={batch},{channels},{height},{width})"
    return GIVE_INPUTS


def _question(subject: str, reference: str, options: dict[str, Any]) -> Question:
    """The question that the command line asks. Raises :class:`SpecError` with every word that is wrong."""
    from harness.scaffold.comparison import Question
    from harness.spec.model_files import absent_files, is_model_file, stored_model

    problems: list[str] = []
    shapes, arguments = read_shapes(options["shapes"], problems), read_arguments(options["arguments"], problems)
    tolerance = read_tolerance(options["tolerance"], problems)
    loop = _loop(options["loop"], options["steps"], problems)
    if not is_model_file(subject):
        problems.append(f"{subject}: not a model file; SUBJECT is .onnx, .ort, .pt, .pth, .jit, .ts or .pt2")
    wrong_files: list[str] = []
    for name in (subject, reference):
        if is_model_file(name):
            try:
                stored_model(Path(name))
            except UsageError as error:
                wrong_files.append(str(error))
        elif name == reference and not is_callable_name(name):
            problems.append(f"{name}: {NEITHER}")
    absent = absent_files([subject, reference], options["inputs"], options["weights"])
    # The process that loads both sides finds further mistakes, and reports them together with the wrong files.
    if problems or absent or (wrong_files and is_model_file(reference) and not options["inputs"]):
        raise Mistakes([*problems, *wrong_files, *absent])
    return Question(
        subject=subject,
        reference=reference,
        home=Path.cwd(),
        inputs=options["inputs"],
        shapes=shapes,
        arguments=arguments,
        weights=options["weights"],
        tolerance=tolerance,
        loop=loop,
        steps=options["steps"],
    )


def _loop(texts: Sequence[str], steps: int | None, problems: list[str]) -> dict[str, str]:
    """The inputs of ``--loop`` by output. Texts that are none are added to ``problems``."""
    loop: dict[str, str] = {}
    for text in texts:
        output, equals, label = text.partition("=")
        if not (output and equals and label):
            problems.append(f"--loop {text}: no output and input; write OUTPUT=INPUT, such as state_out=state")
        loop[f"output_{output}" if output.isdecimal() else output] = label
    if steps is not None and not loop:
        problems.append("--steps: no output feeds an input; add --loop OUTPUT=INPUT")
    return loop


def _require_torch(question: Question) -> None:
    from importlib.util import find_spec

    from harness.environment import install_command

    if _needs_torch(question) and find_spec("torch") is None:
        raise RuntimeMissing(
            f"this comparison needs torch, which is not installed; install with: {install_command('torch')}"
        )


def _needs_torch(question: Question) -> bool:
    """True if a side is a callable, or a file that only torch loads."""
    return not _are_onnx(question.subject, question.reference) or any(file.needs_torch for file in _files(question))


def _are_onnx(*names: str) -> bool:
    """True if all ``names`` are those of files that need no torch, unless their content shows otherwise."""
    return all(name.lower().endswith((".onnx", ".ort")) for name in names)


def _runs_code(question: Question) -> bool:
    """True if a side runs code when it is loaded, so that a spec of it needs consent."""
    files = _files(question)
    return len(files) < 2 or any(file.runs_code for file in files)


def _files(question: Question) -> list[StoredModel]:
    from harness.spec.model_files import is_model_file, stored_model

    files = []
    for name in filter(is_model_file, (question.subject, question.reference)):
        with suppress(UsageError):  # reported when both sides are loaded
            files.append(stored_model(Path(name)))
    return files


def _comparison(question: Question, seconds: float) -> ComparisonSpec:
    """The spec of the question, made in a separate process, which loads both sides."""
    from harness.engine.processes.temporary import temporary_folder
    from harness.explain.process import ProcessEnd, SeparateProcess
    from harness.scaffold.comparison import NoComparison, comparison_spec

    torch = _needs_torch(question)
    with temporary_folder() as scratch, closing(SeparateProcess(scratch, torch=torch, exporting=False)) as process:
        comparison = process.call(comparison_spec, question, seconds=seconds)
    if isinstance(comparison, ProcessEnd):
        raise UsageError(
            f"{question.subject}, {question.reference}: {comparison.description} while they were loaded; "
            "make sure that both load in Python"
        )
    if isinstance(comparison, NoComparison):
        raise Mistakes(comparison.problems)
    return comparison


def _specs(comparison: ComparisonSpec, question: Question) -> Specs:
    try:
        return specs_of(comparison.spec, question.home, allow_import=True)
    except SpecError as error:  # its places are in a spec that the user does not have
        raise Mistakes("; ".join(filter(None, (each.message, each.remedy))) for each in error.problems) from None


def specs_of(spec: Mapping[str, Any], home: Path, *, allow_import: bool) -> Specs:
    """``spec`` as it would be read from a file in ``home``, but it may name any file.

    Raises :class:`SpecError` with what is wrong with it, such as that it runs code without ``allow_import``.
    """
    from harness.scaffold.comparison import cases_of
    from harness.spec.discovery import Specs

    cases = cases_of(spec, "compare", home, allow_import=allow_import)
    cases = tuple(replace(case, where=Location("", 0)) for case in cases)
    return Specs(cases, (), home, None, allow_import=allow_import)


def _save(comparison: ComparisonSpec, question: Question, path: Path, targets: Sequence[str], *, layers: bool) -> Specs:
    """Write the spec, with the ``targets`` if any were named, and read it back."""
    from harness.report.shell import as_argument, command_line, deciding_options
    from harness.scaffold.comparison import moved_spec, spec_text
    from harness.spec.discovery import load_specs, spec_folder

    if path.exists():
        raise UsageError(f"--save-spec {path}: already exists; name another file")
    try:
        spec = moved_spec(comparison.spec, question.home, spec_folder(path))
    except UsageError as error:
        raise UsageError(f"--save-spec {path}: {error}, or the spec above it") from None
    if targets:
        spec["cases"] = [{**case, "targets": list(targets)} for case in spec["cases"]]
    options = deciding_options({"layers": layers, "allow_import": _runs_code(question)})
    in_ci = command_line(["harness", "run", as_argument(str(path)), *options])
    header = f"# Written by `harness compare`. It asks the same in CI: {in_ci}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spec_text(spec, header), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--save-spec {path}: {error.strerror}; name a file that can be written") from error
    return load_specs([path], allow_import=True)


def _advice(outcome: Outcome, specs: Specs, saved: Path | None, report_dir: Path, *, runs_code: bool) -> list[str]:
    from harness.cli.explain import REPORT
    from harness.report.shell import as_argument, command_line, deciding_options
    from harness.report.wording import unexpected

    options = deciding_options({**outcome.report.run, "allow_import": runs_code})
    if saved is None:
        report = report_dir / "report.json"
        which = [] if report == Path(REPORT) else ["--report", str(report)]
        explain = ["harness", "explain", "--last", *which, *options]
        lines = ["keep this question for CI: the same command with --save-spec FILE.yaml"]
    else:
        path = as_argument(str(saved))
        several = len(outcome.report.results) > 1
        failing = next((each.target for each in outcome.report.results if each.status in {"failed", "error"}), "")
        target = ["--target", failing] if several and failing else []
        explain = ["harness", "explain", as_argument(specs.cases[0].id), path, *target, *options]
        lines = [f"in CI: {command_line(['harness', 'run', path, *options])}"]
    if outcome.exit_code == 1 and unexpected(outcome.report.results):
        lines.insert(0, f"find the first node that differs: {command_line(explain)}")
    return lines


COMMANDS = (compare,)
