"""The command line: arguments -> one call -> exit code. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from harness import __version__
from harness.errors import HarnessError, UsageError

FORMATS = ("json", "md", "html", "junit", "csv", "github")
EXAMPLES = """
\b
Examples:
  harness run specs/                                  verify everything on the default targets
  harness run specs/avgpool2d.yaml -k divisor         one family of cases
  harness run specs/ --targets 'onnx-dynamo@23/*'     targets by name, set or glob
  harness check specs/                                validate only; answers at once
"""


class WordList(click.ParamType[tuple[str, ...]]):
    """Comma-separated words."""

    name = "words"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> tuple[str, ...]:
        """``a,b`` as ``("a", "b")``."""
        return value if isinstance(value, tuple) else tuple(word.strip() for word in value.split(",") if word.strip())


def _size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    """``512M``, ``4G`` or plain bytes."""
    if text is None:
        return None
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not number.isdecimal() or int(number) == 0:
        raise UsageError(f"--memory {text}: not a size; write bytes, or a number with K, M, G or T, such as 4G")
    return int(number) * unit


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Tell, with proof, whether the model that you exported is still the model that you trained."""


PATHS = click.argument("paths", nargs=-1, required=True, metavar="PATH...")
ALLOW_IMPORT = click.option(
    "--allow-import", is_flag=True, help="Let specs name a factory: it runs the code that it names."
)
TARGETS = click.option(
    "--targets",
    multiple=True,
    type=WordList(),
    metavar="LIST",
    help="Targets, sets of targets.yaml or globs, separated by commas. [default: the set named default]",
)
KEYWORDS = click.option(
    "-k", "keywords", multiple=True, metavar="TEXT", help="Only cases whose id holds TEXT, or matches it as a glob."
)


@cli.command()
@PATHS
@TARGETS
@KEYWORDS
@click.option("--shard", metavar="I/N", help="Run part I of N.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Workers. [default: the cores]")
@click.option("--report-dir", type=click.Path(path_type=Path), default="reports/latest", show_default=True)
@click.option(
    "--format", "formats", type=WordList(), default="json,md", show_default=True, help=f"Any of {', '.join(FORMATS)}."
)
@click.option("--latency/--no-latency", default=True, show_default=True, help="Time each check that passes.")
@click.option(
    "--known-failures",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="[default: known-failures.yaml beside the specs]",
)
@click.option(
    "--require", multiple=True, type=WordList(), metavar="RUNTIME", help="Exit 3 where this runtime is missing."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="S",
    help="Seconds a check may take.",
)
@click.option("--memory", callback=_size, metavar="SIZE", help="Memory a check may take, such as 4G.")
@click.option("--strict-ulp", type=click.IntRange(min=0), metavar="N", help="Hold every output to N ULP.")
@click.option("--no-cache", is_flag=True, help="Export everything anew, and keep nothing.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@ALLOW_IMPORT
def run(paths: tuple[str, ...], **options: Any) -> int:
    """Verify and time every case on every target, and write the report."""
    from harness.engine.local import warm_up
    from harness.pipeline import Request
    from harness.pipeline import run as carry_out
    from harness.plan import Shard
    from harness.report.terminal import Progress, show
    from harness.spec.discover import has_specs
    from harness.verify.settings import Settings

    warm_up(torch=has_specs(paths))
    unknown = [name for name in options["formats"] if name not in FORMATS]
    if unknown:
        raise UsageError(f"--format {unknown[0]}: no such format; any of {', '.join(FORMATS)}")
    settings = Settings(
        timeout=options["timeout"],
        memory=options["memory"],
        latency=options["latency"],
        strict_ulp=options["strict_ulp"],
        cache=None if options["no_cache"] else cache_folder(),
    )
    request = Request(
        paths=paths,
        targets=_flat(options["targets"]) or ("default",),
        keywords=options["keywords"],
        shard=None if options["shard"] is None else Shard.parse(options["shard"]),
        workers=options["jobs"] or 0,
        report_dir=options["report_dir"],
        formats=options["formats"],
        known_failures=options["known_failures"],
        require=_flat(options["require"]),
        resume=options["resume"],
        allow_import=options["allow_import"],
        settings=settings,
    )
    outcome = carry_out(request, Progress())
    show(outcome.report, outcome.files)
    return outcome.exit_code


@cli.command()
@PATHS
@ALLOW_IMPORT
def check(paths: tuple[str, ...], allow_import: bool) -> int:
    """Validate specs, targets and known failures; answers at once, without torch."""
    from harness.spec.discover import load
    from harness.spec.known_failures import load_known_failures

    specs = load(paths, allow_import=allow_import)
    sets = specs.target_sets
    known = load_known_failures(specs.known_failures)
    counted = f"{len(specs.cases)} cases in {len(specs.files)} files, {len(sets.all)} targets"
    click.echo(f"{counted}, {len(known)} known failures: all valid")
    return 0


@cli.command("list")
@PATHS
@TARGETS
@KEYWORDS
@ALLOW_IMPORT
def list_(
    paths: tuple[str, ...], targets: tuple[tuple[str, ...], ...], keywords: tuple[str, ...], allow_import: bool
) -> int:
    """List the cases and the targets that a run would take them to."""
    from harness.plan import plan
    from harness.spec.discover import load

    specs = load(paths, allow_import=allow_import)
    chosen = specs.target_sets.select(_flat(targets) or ("default",))
    work = plan(specs.cases, chosen, keywords, None)
    for case, _ in work.work:
        click.echo(f"{case.id}  {case.about}".rstrip())
    click.echo("\n" + "\n".join(f"{target}" for target in chosen))
    click.echo(f"\n{len(work.work)} cases x {len(chosen)} targets = {work.checks} checks")
    return 0


@cli.command()
def schema() -> int:
    """Print the JSON Schema of specs, for editors."""
    import json

    from harness.spec.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return 0


@cli.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPORT.json...")
@click.option("--report-dir", type=click.Path(path_type=Path), default="reports/latest", show_default=True)
@click.option("--format", "formats", type=WordList(), default="json,md", show_default=True)
def merge(reports: tuple[Path, ...], report_dir: Path, formats: tuple[str, ...]) -> int:
    """Join the reports of the shards of a run, or of several machines, into one; exits as the whole run would have."""
    from harness.gate import exit_code
    from harness.report.json_report import read_report
    from harness.report.merge import merge as joined
    from harness.report.terminal import show
    from harness.report.write import write

    whole = joined([(path, read_report(path)) for path in reports])
    show(whole, write(whole, report_dir, formats))
    return exit_code(whole.results)


@cli.command()
def doctor() -> int:
    """Show the runtimes of this machine: what is here, and what would bring each of the others."""
    from tabulate import tabulate

    from harness.environment import versions
    from harness.registry import plugins

    rows = []
    for name, runtime in plugins("runtimes").items():
        found = runtime.availability()
        rows.append((name, "present" if found.present else "absent", found.missing or found.detail, found.bring or ""))
    rows.sort(key=lambda row: (row[1] != "present", row[0]))
    click.echo(
        tabulate(
            rows, headers=("runtime", "", "what is there", "what would bring it"), maxcolwidths=[None, None, 60, 60]
        )
    )
    click.echo("\n" + tabulate(versions().items(), headers=("package", "version")))
    return 0 if any(row[1] == "present" for row in rows) else 3


def cache_folder() -> Path:
    """Where exported files are kept between runs: ``HARNESS_CACHE``, else the user's cache folder."""
    import os

    from platformdirs import user_cache_path

    return Path(os.environ.get("HARNESS_CACHE") or user_cache_path("harness")) / "artifacts"


def _flat(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(word for words in lists for word in words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; a mistake of the user's is a line, never a traceback."""
    call: Callable[..., Any] = cli.main
    try:
        code = call(args=None if arguments is None else list(arguments), prog_name="harness", standalone_mode=False)
    except HarnessError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
