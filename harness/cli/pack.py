"""``harness pack``: make a bundle for a machine without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    ALLOW_IMPORT,
    FOLDER,
    JOBS,
    KEYWORDS,
    KNOWN_FAILURES,
    NO_CACHE,
    PATHS,
    TARGETS,
    flat,
    parse_size,
    timeout_option,
)
from harness.cli.process import echo, tell_unmatched
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.packing import LayersSummary

EXAMPLES = """
\b
Examples:
  harness pack specs/ -o bundle                             then copy the folder to the board and run there:
  harness run bundle/ --report-dir reports/board
  harness pack specs/ -o bundle --targets 'onnx-*/ort-cpu'  only files that the board's runtime loads
  harness pack specs/ -o bundle --layers                    then harness run bundle --layers shows the layers there
"""
SHOWN = 10


@click.command(epilog=EXAMPLES, short_help="Make a bundle for a machine without torch.")
@PATHS
@click.option(
    "-o",
    "--output",
    "--out",
    "out",
    required=True,
    type=FOLDER,
    metavar="DIR",
    help="Folder for the bundle; new or empty.",
)
@TARGETS
@KEYWORDS
@JOBS
@KNOWN_FAILURES
@click.option("--bench/--no-bench", default=True, help="Include the bench shapes of the specs, which are only timed.")
@click.option(
    "--layers",
    is_flag=True,
    help="Include the layers of whole models. Whoever has the bundle can then read the values inside these models.",
)
@click.option(
    "--layers-limit",
    callback=parse_size,
    metavar="SIZE",
    help="Disk space for the values of the layers of each export; the largest that do not fit are left out. "
    "[default: 512M]",
)
@timeout_option("Seconds per export.")
@NO_CACHE
@ALLOW_IMPORT
def pack(paths: tuple[str, ...], out: Path, **options: Any) -> int:
    """Export every case, and put the files and all reference values into DIR, for a machine without torch."""
    if options["layers_limit"] is not None and not options["layers"]:
        raise UsageError("--layers-limit: no layers are packed; add --layers")
    from harness.engine.processes.fork_server import start_server

    start_server(torch=True)  # it loads while this process does
    from harness.check.settings import LAYER_BYTES, Settings, cache_folder, with_time_limit
    from harness.packing import PackRequest
    from harness.packing import pack as write_bundle
    from harness.report.terminal import Progress
    from harness.report.wording import stage_and_symptom
    from harness.spec.quoting import count_of

    settings = Settings(
        cache=None if options["no_cache"] else cache_folder(),
        pack_layers=(options["layers_limit"] or LAYER_BYTES) if options["layers"] else None,
    )
    request = PackRequest(
        paths=paths,
        out=out,
        targets=flat(options["targets"]) or ("default",),
        keywords=options["keywords"],
        workers=options["jobs"] or 0,
        known_failures=options["known_failures"],
        bench=options["bench"],
        allow_import=options["allow_import"],
        settings=with_time_limit(settings, options["timeout"]),
    )
    packed = write_bundle(request, Progress())
    tell_unmatched(packed.unmatched)
    for result in packed.not_packed[:SHOWN]:
        failure = stage_and_symptom(result) or result.status
        reason = result.message or next((finding.message for finding in result.findings), "")
        echo(f"not packed: {result.case} on {result.target.partition('/')[0]} | {failure} | {reason}")
    if (more := len(packed.not_packed) - SHOWN) > 0:
        echo(f"... and {more} more; {out / 'manifest.json'} has the reasons")
    if (layers := packed.layers) is not None:
        _echo_layers(layers)
    left = f", {len(packed.not_packed)} not packed (the bundle records why)" if packed.not_packed else ""
    size, named = (f"{number / 2**20:.1f} MiB" for number in (packed.bytes_on_disk, packed.bytes_by_name))
    what = f"{count_of(packed.cases, 'case')}, {count_of(packed.exports, 'export')}"
    echo(f"Packed: {what}{left}; {size} in {out} ({named} without links)")
    return 3 if any(result.status == "error" and result.stage is None for result in packed.not_packed) else 0


def _echo_layers(layers: LayersSummary) -> None:
    from harness.spec.quoting import count_of

    for remark in layers.remarks[:SHOWN]:
        echo(remark)
    if (more := len(layers.remarks) - SHOWN) > 0:
        echo(f"... and {more} more; the notes of harness run --layers have the reasons")
    if layers.exports:
        rows, exports = count_of(layers.rows, "row"), count_of(layers.exports, "export")
        echo(
            f"Layers: {rows} of {exports}, {layers.bytes / 2**20:.1f} MiB; "
            "whoever has the bundle can read the values inside these models"
        )


COMMANDS = (pack,)
