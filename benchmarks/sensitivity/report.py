"""The report on precisions, in Markdown, from what the commands wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.environment import describe, installed_version

PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tract")

RUN_FILE = "run.json"

HEAD = """\
# What a lower precision costs

`python -m benchmarks.sensitivity` ran `harness sensitivity` and `harness ladder` on six models: four small networks of
the kinds that people ship, with random weights (`benchmarks/sensitivity/nets.py`), and two files that others ship, from
the wheels of `magika` 1.0.3 and `rapidocr-onnxruntime` 1.4.4. Each has inputs of its own kind.

Versions: {versions}. CPU: {cpu}. Latencies are those of one busy machine with two cores; they compare rows and are no
benchmark.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One command: its words with the model's name, its exit code, what it printed, and the folder of its results."""

    model: str
    about: str
    command: str
    code: int
    seconds: float
    text: str
    folder: Path

    def save(self) -> None:
        """Keep the run beside its results."""
        data = {**asdict(self), "folder": str(self.folder)}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RUN_FILE).write_text(json.dumps(data), encoding="utf-8")

    @property
    def found(self) -> dict[str, Any] | None:
        """The command's JSON; None if it wrote none."""
        path = self.folder / ("ladder.json" if self.command.startswith("ladder") else "sensitivity.json")
        if self.code not in {0, 1} or not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def saved_runs(folder: Path) -> list[Run]:
    """The runs of a model that were saved, in the order in which they were made."""
    paths = sorted(folder.glob(f"*/{RUN_FILE}"), key=lambda path: path.stat().st_mtime)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [Run(**{**each, "folder": Path(each["folder"])}) for each in found]


def write_report(runs: Sequence[Run], left_out: Sequence[str], path: Path) -> None:
    """Write the report to ``path`` and its pictures beside it, into a folder of the same name."""
    pictures = path.with_suffix("")
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    path.write_text("\n".join(_lines(runs, left_out, pictures)) + "\n", encoding="utf-8")


def _lines(runs: Sequence[Run], left_out: Sequence[str], pictures: Path) -> Iterator[str]:
    versions = ", ".join(f"{name} {installed_version(name)}" for name in PACKAGES if installed_version(name))
    cpu = describe()["cpu"]
    yield HEAD.format(versions=versions, cpu=f"{cpu['model']} with {', '.join(cpu['features'])}")
    if left_out:
        yield f"Not run, because their files were not there: {', '.join(left_out)}.\n"
    yield "## Layers to keep\n"
    yield from _summary([run for run in runs if run.command.startswith("sensitivity")])
    for model in dict.fromkeys(run.model for run in runs):
        of_model = [run for run in runs if run.model == model]
        yield f"\n## {model}\n\nInputs: {of_model[0].about}.\n"
        for run in of_model:
            yield from _details(run, pictures)


def _summary(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for run in runs:
        found = run.found
        if found is None:
            rows.append([run.model, run.command.split()[3], "", "", "", "", f"exit code {run.code}", ""])
            continue
        shortest = found["shortest"]
        everything = found["curve"][0]["measure"]
        after = None if shortest is None else shortest["outcome"]["measure"]
        kept = "all" if shortest is None else f"{len(shortest['layers'])}: {_few(shortest['layers'])}"
        rows.append(
            [
                run.model,
                found["to"],
                f"{len(found['layers'])} x {len(found['samples'])}",
                f"{found['target']['sqnr']:g} dB",
                _measured(everything),
                kept,
                "" if after is None else _measured(after),
                f"{run.seconds:.0f} s",
            ]
        )
    heads = ("model", "to", "layers x samples", "target", "nothing kept", "keep in float32", "measured", "time")
    yield tabulate(rows, heads, "github", disable_numparse=True)
    yield (
        "\nSQNR is that of the worst sample; the share is that of equal decisions. Each list was measured with the "
        "written file, and measured again without each of its layers (of a list of more than 32, the least sensitive "
        "32). The names of nodes are cut."
    )


def _few(names: Sequence[str]) -> str:
    cut = ["/".join(name.split("/")[-2:]) for name in names]
    return ", ".join(f"`{name}`" for name in cut[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _measured(measure: dict[str, Any] | None) -> str:
    if measure is None:
        return "fails"
    ratio = measure["sqnr"]
    text = f"{ratio:.1f} dB" if isinstance(ratio, float) else {"inf": "equal", "-inf": "destroyed"}[ratio]
    decided = measure["decisions"]
    return text if decided is None else f"{text}, {decided['agree']:,} of {decided['of']:,}"


def _details(run: Run, pictures: Path) -> Iterator[str]:
    yield f"`harness {run.command} --inputs {run.model}/`\n"
    for name in ("curve", "front", "ladder"):
        picture = run.folder / f"{name}.svg"
        if run.found is not None and picture.exists():
            kept = f"{run.model}-{run.folder.name}-{name}.svg" if name != "ladder" else f"{run.model}-ladder.svg"
            shutil.copy(picture, pictures / kept)
            yield f"![{name} of {run.model}]({pictures.name}/{kept})\n"
    text = "\n".join(line.rstrip() for line in run.text.splitlines() if not line.startswith("Written: "))
    yield f"<details><summary>What it printed</summary>\n\n```text\n{text}\n```\n\n</details>\n"
