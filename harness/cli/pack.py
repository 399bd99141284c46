"""``harness pack``: a bundle for hardware on which there is no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import (
    ALLOW_IMPORT,
    AT_LEAST_ONE,
    FOLDER,
    KEYWORDS,
    PATHS,
    TARGETS,
    flat,
    timeout,
)
from harness.cli.process import say

EXAMPLES = """
\b
Examples:
  harness pack specs/ -o bundle                             then copy the folder to the board, and there:
  harness run bundle/ --report-dir reports/board
  harness pack specs/ -o bundle --targets 'onnx-*/ort-cpu'  what the board's runtime loads, and nothing else
"""
SHOWN = 10


@click.command(epilog=EXAMPLES, short_help="Make a bundle for a machine without torch.")
@PATHS
@click.option("-o", "--out", required=True, type=FOLDER, metavar="DIR", help="The bundle; must not be there yet.")
@TARGETS
@KEYWORDS
@click.option("-j", "--jobs", type=AT_LEAST_ONE, metavar="N", help="Workers. [default: the cores]")
@click.option("--known-failures", type=FOLDER, metavar="FILE", help="[default: known-failures.yaml beside the specs]")
@click.option("--bench/--no-bench", default=True, help="Also what is timed alone: the specs' bench shapes.")
@timeout("Seconds an export may take.")
@click.option("--no-cache", is_flag=True, help="Export everything anew, and keep nothing.")
@ALLOW_IMPORT
def pack(paths: tuple[str, ...], out: Path, **options: Any) -> int:
    """Export every case, and put the files with all they are held against into DIR, for a machine without torch."""
    from harness.check.settings import Settings, cache_folder, with_time_limit
    from harness.engine.processes.fork_server import warm_up
    from harness.packing import PackRequest
    from harness.packing import pack as carry_out
    from harness.report.terminal import Progress

    warm_up(torch=True)
    request = PackRequest(
        paths=paths,
        out=out,
        targets=flat(options["targets"]) or ("default",),
        keywords=options["keywords"],
        workers=options["jobs"] or 0,
        known_failures=options["known_failures"],
        bench=options["bench"],
        allow_import=options["allow_import"],
        settings=with_time_limit(Settings(cache=None if options["no_cache"] else cache_folder()), options["timeout"]),
    )
    packed = carry_out(request, Progress())
    for result in packed.not_packed[:SHOWN]:
        how = ": ".join(filter(None, (result.stage, result.symptom)))
        said = result.message or next((finding.message for finding in result.findings), "")
        say(f"not packed: {result.case} on {result.target.partition('/')[0]} | {how or result.status} | {said}")
    if (more := len(packed.not_packed) - SHOWN) > 0:
        say(f"... and {more} more, each with its reason in {out / 'manifest.json'}")
    left = f", {len(packed.not_packed)} not packed and told as they are" if packed.not_packed else ""
    size, named = (f"{number / 2**20:.1f} MiB" for number in (packed.on_disk, packed.by_name))
    say(f"Packed: {packed.cases} cases, {packed.exports} exports{left}; {size} in {out} ({named} without links)")
    return 3 if any(result.status == "error" and result.stage is None for result in packed.not_packed) else 0


COMMANDS = (pack,)
