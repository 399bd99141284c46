"""``harness run`` and ``harness bench``: verify, time, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import AT_LEAST_ONE, FORMATS, SECONDS, carrying_out, flat
from harness.cli.process import say
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.bench import BenchSettings
    from harness.engine.cluster import Cluster

RUN_EXAMPLES = """
\b
Examples:
  harness run specs/                                        everything, on the default targets
  harness run specs/ -k avgpool2d --targets 'onnx-*'        some cases, on some targets
  harness run specs/ --require ort-cpu --no-latency         as a gate in CI
  harness run specs/ --baseline reports/main/report.json    against an earlier report
  harness run specs/ --resume                               go on with a run that was interrupted
"""
BENCH_EXAMPLES = """
\b
Examples:
  harness bench specs/ -k linear                            one family of cases
  harness bench specs/ --threads 4 --cpus 0-3               on these CPUs alone
  harness bench specs/ --baseline reports/main/report.json  what became slower
"""


@click.command(epilog=RUN_EXAMPLES, short_help="Verify and time every case on every target.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time each check that passes.")
@carrying_out
def run(paths: tuple[str, ...], **options: Any) -> int:
    """Verify and time every case on every target, and write the report."""
    return _carried_out(paths, options)


@click.command(epilog=BENCH_EXAMPLES, short_help="Time every case thoroughly, where it verifies.")
@click.option("--budget", type=SECONDS, default=5.0, show_default=True, metavar="S", help="For a case at one shape.")
@click.option("--processes", type=AT_LEAST_ONE, default=20, show_default=True, metavar="N", help="For each of these.")
@click.option("--rounds", type=AT_LEAST_ONE, metavar="N", help="In each process. [default: what the budget holds]")
@click.option(
    "--threads", type=AT_LEAST_ONE, metavar="N", help="For eager, and for targets that do not say. [default: 1]"
)
@click.option("--cpus", metavar="LIST", help="The CPUs to be timed on, such as 0,2-3. [default: all]")
@carrying_out
def bench(paths: tuple[str, ...], **options: Any) -> int:
    """Time every case thoroughly on every target where it verifies, and write the report."""
    import harness.engine  # noqa: F401 - the first to be asked: it says so where no check can run
    from harness.bench import BenchSettings, parse_cpus

    asked = BenchSettings(
        budget_s=options["budget"],
        processes=options["processes"],
        rounds=options["rounds"],
        threads=options["threads"],
        cpus=() if options["cpus"] is None else parse_cpus(options["cpus"]),
    )
    return _carried_out(paths, {**options, "latency": True}, asked)


def _carried_out(paths: tuple[str, ...], options: Mapping[str, Any], bench: BenchSettings | None = None) -> int:
    """Do what ``run`` or ``bench`` was asked for, and show what came of it."""
    from harness.check.settings import Settings, cache_folder, with_time_limit

    cache = None if options["no_cache"] else cache_folder()
    if options["engine"] == "local":
        _begin_loading(paths, cache)
    from harness.pipeline import Request
    from harness.pipeline import run as carry_out
    from harness.plan import Shard
    from harness.report.diff.text import show_diff
    from harness.report.github import publish
    from harness.report.shell import resume_words
    from harness.report.terminal import Progress, show

    unknown = [name for name in options["formats"] if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format {unknown[0]}: no such format; any of {', '.join(FORMATS)}")
    settings = Settings(
        memory=options["memory"],
        latency=options["latency"],
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
        formats=options["formats"],
        known_failures=options["known_failures"],
        require=flat(options["require"]),
        resume=options["resume"],
        allow_import=options["allow_import"],
        settings=with_time_limit(settings, options["timeout"]),
        bench=bench,
        baseline=options["baseline"],
        min_effect=options["min_effect"],
    )
    outcome = carry_out(request, Progress())
    say(publish(outcome.report, request.formats), end="")
    show(outcome.report, outcome.files, resume=resume_words(click.get_current_context().find_root().obj))
    if outcome.diff is not None:
        show_diff(outcome.diff)
    return outcome.exit_code


def _begin_loading(paths: tuple[str, ...], cache: Path | None) -> None:
    """Let the fork server load what checks need while this process still loads itself and reads the specs.

    Where exports are kept, the engine says later what is needed, which may be less.
    """
    from harness.check.cache.artifacts import is_empty
    from harness.engine.processes.fork_server import warm_up
    from harness.spec.discovery import has_specs

    if is_empty(cache):
        warm_up(torch=has_specs(paths))


def _cluster(options: Mapping[str, Any]) -> Cluster | None:
    """The cluster that was asked for, if one was. Raises :class:`UsageError` for its options without it."""
    from harness.engine.cluster import Cluster

    address, resources = options["ray_address"], options["ray_resource"]
    if options["engine"] == "ray":
        return Cluster.parse(address, resources)
    if address or resources:
        raise UsageError("--ray-address and --ray-resource are for --engine ray; add it")
    return None


COMMANDS = (
    run,
    bench,
)
