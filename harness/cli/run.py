"""``harness run`` and ``harness bench``: verify, time and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness.cli.options import AT_LEAST_ONE, SECONDS, flat, run_options
from harness.cli.process import echo, tell_unmatched
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.engine.bench import BenchSettings
    from harness.engine.cluster import Cluster
    from harness.pipeline import Outcome, Request

RUN_EXAMPLES = """
\b
Examples:
  harness run specs/                                        everything on the default targets
  harness run specs/ -k avgpool2d --targets 'onnx-*'        some cases on some targets
  harness run specs/ --require ort-cpu --no-latency         as a gate in CI
  harness run specs/ --baseline reports/main/report.json    compare with an earlier report
  harness run specs/ --resume                               continue an interrupted run
  harness run specs/relu.yaml::signed -x                    one case, up to the first failure
  harness run specs/ --lf --open                            what failed last time, then the page
  harness run specs/ --watch                                again after each save, within half a second
"""
BENCH_EXAMPLES = """
\b
Examples:
  harness bench specs/ -k linear                            one family of cases
  harness bench specs/ --threads 4 --cpus 0-3               on these CPUs only
  harness bench model.yaml --layers                         where the time goes, by node and layer
  harness bench specs/ --baseline reports/main/report.json  show what became slower
"""

ERRORS_OF_LAYERS = ("layers", "model-explorer")
"""The formats that hold nothing but the errors of layers."""


@click.command(epilog=RUN_EXAMPLES, short_help="Verify and time every case on every target.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time each check that passes.")
@click.option(
    "--layers", is_flag=True, help="Compare every layer inside the models too; a wrong layer fails its check."
)
@click.option(
    "--watch", is_flag=True, help="Stay, and run what changed whenever a file is saved. Implies --no-latency."
)
@run_options
@click.pass_context
def run(ctx: click.Context, /, paths: tuple[str, ...], **options: Any) -> int:
    """Verify and time every case on every target, and write the report."""
    if options["watch"] and ctx.get_parameter_source("latency") is not ParameterSource.COMMANDLINE:
        options["latency"] = False
    return _run(paths, options)


@click.command(epilog=BENCH_EXAMPLES, short_help="Verify every case and time it thoroughly.")
@click.option("--budget", type=SECONDS, default=5.0, show_default=True, metavar="S", help="Seconds per case and shape.")
@click.option(
    "--processes", type=AT_LEAST_ONE, default=20, show_default=True, metavar="N", help="Processes per case and shape."
)
@click.option(
    "--rounds", type=AT_LEAST_ONE, metavar="N", help="Rounds per process. [default: as many as the budget allows]"
)
@click.option(
    "--threads",
    type=AT_LEAST_ONE,
    metavar="N",
    help="Threads of eager torch and of targets without ?threads. [default: 1]",
)
@click.option("--cpus", metavar="LIST", help="CPUs to measure on, such as 0,2-3. [default: all]")
@click.option("--layers", "layer_times", is_flag=True, help="Time each node and layer too, and keep the traces.")
@run_options
def bench(paths: tuple[str, ...], **options: Any) -> int:
    """Verify every case on every target, time those that pass thoroughly, and write the report."""
    import harness.engine  # noqa: F401 - imported first: it raises on a system where no check can run
    from harness.engine.bench import BenchSettings, parse_cpus

    settings = BenchSettings(
        budget_s=options["budget"],
        processes=options["processes"],
        rounds=options["rounds"],
        threads=options["threads"],
        cpus=() if options["cpus"] is None else parse_cpus(options["cpus"]),
        layers=options["layer_times"],
    )
    return _run(paths, {**options, "latency": True, "watch": False}, settings)


def _run(paths: tuple[str, ...], options: Mapping[str, Any], bench: BenchSettings | None = None) -> int:
    """Carry out ``run`` or ``bench``, and print the results."""
    from harness.check.settings import cache_folder

    cache = None if options["no_cache"] else cache_folder()
    if options["engine"] == "local" and not options["dry_run"]:
        _start_loading(paths, cache)
    from harness.report import chosen_formats

    if options["open_report"] and "html" not in options["formats"]:
        raise UsageError("--open needs the page; add html to --format")
    chosen_formats(options["formats"])  # before anything runs
    request = _request(paths, options, cache, bench)
    if options["dry_run"]:
        return _dry_run(request)
    return _watch(request, options) if options["watch"] else _run_and_show(request, options)


def _request(
    paths: tuple[str, ...], options: Mapping[str, Any], cache: Path | None, bench: BenchSettings | None
) -> Request:
    """What the options ask for."""
    from harness.check.settings import Settings, with_time_limit
    from harness.pipeline import Request
    from harness.plan import Shard
    from harness.report.diff.start import gated_figures

    settings = Settings(
        memory=options["memory"],
        latency=options["latency"],
        layers=options.get("layers", False),
        strict_ulp=options["strict_ulp"],
        cache=cache,
    )
    return Request(
        paths=paths,
        targets=flat(options["targets"]) or ("default",),
        keywords=options["keywords"],
        shard=None if options["shard"] is None else Shard.parse(options["shard"]),
        workers=options["jobs"] or 0,
        cluster=_cluster(options),
        report_dir=options["report_dir"],
        formats=_formats(options),
        known_failures=options["known_failures"],
        require=flat(options["require"]),
        resume=options["resume"],
        allow_import=options["allow_import"],
        settings=with_time_limit(settings, options["timeout"]),
        bench=bench,
        baseline=options["baseline"],
        min_effect=_min_effect(options),
        gate=gated_figures(options["gate"] or ()),
        strict=options["strict"],
        maxfail=options["maxfail"],
        only=_last_failed(options["report_dir"]) if options["lf"] else None,
    )


def _min_effect(options: Mapping[str, Any]) -> float:
    """The option, if there is a baseline. pyproject.toml may set it for all runs, with a baseline and without.

    Raises :class:`UsageError` if it was typed without a baseline.
    """
    from harness.report.diff import MIN_EFFECT

    effect: float = options["min_effect"]
    if options["baseline"] is not None:
        return effect
    if click.get_current_context().get_parameter_source("min_effect") is ParameterSource.COMMANDLINE:
        raise UsageError(f"--min-effect {effect:g}: there is nothing to compare with; give --baseline REPORT.json")
    return MIN_EFFECT


def _last_failed(report_dir: Path) -> frozenset[tuple[str, str]] | None:
    """The checks of the report in ``report_dir`` that were not as expected; None, for all checks, if there are none."""
    from harness.report.json_report import read_report
    from harness.report.wording import unexpected

    path = report_dir / "report.json"
    if not path.is_file():
        raise UsageError(f"--lf: {path}: no such file; run once without --lf, with json among the formats")
    checks = frozenset((result.case, result.target) for result in unexpected(read_report(path).results))
    if not checks:
        echo(f"--lf: nothing failed in {path}; running all checks", error=True)
    return checks or None


def _dry_run(request: Request) -> int:
    """Print the checks that a run would do."""
    from harness.pipeline import prepare
    from harness.spec.quoting import count_of

    planned = prepare(request).plan
    tell_unmatched(planned.unmatched)
    for case, targets in planned.jobs:
        for target in targets:
            echo(f"{case.id} on {target}")
    echo(f"{count_of(planned.checks, 'check')}, none run (--dry-run)")
    return 0


def _watch(request: Request, options: Mapping[str, Any]) -> int:
    """Run the checks again and again."""
    if request.cluster is not None:
        raise UsageError("--watch runs on this machine; leave --engine ray out")
    from harness.cli._watch import watch

    once = dict(options)

    def show(outcome: Outcome) -> None:
        _show(outcome, request, once)
        once["open_report"] = False

    return watch(request, show)


def _run_and_show(request: Request, options: Mapping[str, Any]) -> int:
    """Run the checks and print the results."""
    from harness.pipeline import run as run_pipeline
    from harness.report.terminal import Progress

    outcome = run_pipeline(request, Progress(quiet=options["quiet"], verbose=options["verbose"]))
    _show(outcome, request, options)
    return outcome.exit_code


def _show(outcome: Outcome, request: Request, options: Mapping[str, Any]) -> None:
    """Print the results, and open the page if that was asked for."""
    import webbrowser

    from harness.report.diff.text import show_diff
    from harness.report.github import publish
    from harness.report.shell import resume_words
    from harness.report.terminal import show

    if not options["watch"]:  # after a save only the specs that changed are run
        tell_unmatched(outcome.report.run["unmatched_keywords"])
    echo(publish(outcome.report, request.formats), end="")
    resume = resume_words(click.get_current_context().find_root().obj)
    show(outcome.report, outcome.files, resume=resume, quiet=options["quiet"])
    empty = [name for name in request.formats if name in ERRORS_OF_LAYERS]
    if empty and not any(result.layers for result in outcome.report.results):
        advice = "" if options.get("layers") else "; harness run --layers compares them"
        echo(f"--format {','.join(empty)}: nothing to write, no layer was compared{advice}", error=True)
    if outcome.diff is not None:
        show_diff(outcome.diff)
    if options["open_report"]:
        page = next(path for path in outcome.files if path.suffix == ".html")
        if not webbrowser.open(page.absolute().as_uri()):
            echo(f"--open: no browser starts here; the page is {page}", error=True)


def _formats(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The formats that are asked for; with the layers, a CSV comes with one for them."""
    formats = tuple(options["formats"])
    return (*formats, "layers") if options.get("layers") and "csv" in formats else formats


def _start_loading(paths: tuple[str, ...], cache: Path | None) -> None:
    """Let the fork server load the libraries of the checks while this process still loads its own and reads the specs.

    If the cache has exports, the engine decides later which libraries are needed: it may be fewer. What is imported
    here is little: the server loads for several seconds, and waits for everything that comes before it.
    """
    from harness.check.cache import is_empty
    from harness.engine.processes.fork_server import start_server
    from harness.spec import has_specs
    from harness.spec.glob import path_and_case

    if is_empty(cache):
        start_server(torch=has_specs(path_and_case(path)[0] for path in paths))


def _cluster(options: Mapping[str, Any]) -> Cluster | None:
    """The cluster of ``--engine ray``, or None. Raises :class:`UsageError` for its options without ``--engine ray``."""
    from harness.engine.cluster import Cluster

    address, resources = options["ray_address"], options["ray_resource"]
    if options["engine"] == "ray":
        return Cluster.parse(address, resources)
    if address or resources:
        raise UsageError("--ray-address and --ray-resource need --engine ray; add it")
    return None


COMMANDS = (
    run,
    bench,
)
