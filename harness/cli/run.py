"""``harness run`` and ``harness bench``: verify, time and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import AT_LEAST_ONE, FORMATS, SECONDS, flat, run_options
from harness.cli.process import echo
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.bench import BenchSettings
    from harness.engine.cluster import Cluster

RUN_EXAMPLES = """
\b
Examples:
  harness run specs/                                        everything on the default targets
  harness run specs/ -k avgpool2d --targets 'onnx-*'        some cases on some targets
  harness run specs/ --require ort-cpu --no-latency         as a gate in CI
  harness run specs/ --baseline reports/main/report.json    compare with an earlier report
  harness run specs/ --resume                               continue an interrupted run
"""
BENCH_EXAMPLES = """
\b
Examples:
  harness bench specs/ -k linear                            one family of cases
  harness bench specs/ --threads 4 --cpus 0-3               on these CPUs only
  harness bench model.yaml --layers                         where the time goes, by node and layer
  harness bench specs/ --baseline reports/main/report.json  show what became slower
"""


@click.command(epilog=RUN_EXAMPLES, short_help="Verify and time every case on every target.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time each check that passes.")
@click.option(
    "--layers", is_flag=True, help="Compare every layer inside the models too; a wrong layer fails its check."
)
@run_options
def run(paths: tuple[str, ...], **options: Any) -> int:
    """Verify and time every case on every target, and write the report."""
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
    from harness.bench import BenchSettings, parse_cpus

    settings = BenchSettings(
        budget_s=options["budget"],
        processes=options["processes"],
        rounds=options["rounds"],
        threads=options["threads"],
        cpus=() if options["cpus"] is None else parse_cpus(options["cpus"]),
        layers=options["layer_times"],
    )
    return _run(paths, {**options, "latency": True}, settings)


def _run(paths: tuple[str, ...], options: Mapping[str, Any], bench: BenchSettings | None = None) -> int:
    """Carry out ``run`` or ``bench``, and print the results."""
    from harness.check.settings import Settings, cache_folder, with_time_limit

    cache = None if options["no_cache"] else cache_folder()
    if options["engine"] == "local":
        _start_loading(paths, cache)
    from harness.pipeline import Request
    from harness.pipeline import run as run_pipeline
    from harness.plan import Shard
    from harness.report.diff.text import show_diff
    from harness.report.github import publish
    from harness.report.shell import resume_words
    from harness.report.terminal import Progress, show

    unknown = [name for name in options["formats"] if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format {unknown[0]}: no such format; use any of {', '.join(FORMATS)}")
    settings = Settings(
        memory=options["memory"],
        latency=options["latency"],
        layers=options.get("layers", False),
        strict_ulp=options["strict_ulp"],
        cache=cache,
    )
    request = Request(
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
        min_effect=options["min_effect"],
        strict=options["strict"],
    )
    outcome = run_pipeline(request, Progress())
    echo(publish(outcome.report, request.formats), end="")
    show(outcome.report, outcome.files, resume=resume_words(click.get_current_context().find_root().obj))
    if outcome.diff is not None:
        show_diff(outcome.diff)
    return outcome.exit_code


def _formats(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The formats that are asked for; with the layers, a CSV comes with one for them."""
    formats = tuple(options["formats"])
    return (*formats, "layers") if options.get("layers") and "csv" in formats else formats


def _start_loading(paths: tuple[str, ...], cache: Path | None) -> None:
    """Let the fork server load the libraries of the checks while this process still loads its own and reads the specs.

    If the cache has exports, the engine decides later which libraries are needed: it may be fewer.
    """
    from harness.check.cache.artifacts import is_empty
    from harness.engine.processes.fork_server import start_server
    from harness.spec.discovery import has_specs

    if is_empty(cache):
        start_server(torch=has_specs(paths))


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
