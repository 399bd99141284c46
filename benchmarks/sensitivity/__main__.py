"""Runs both commands on six models of different kinds, and writes ``reports/precision.md`` with its pictures.

    python -m benchmarks.sensitivity [--files FOLDER] [--only NAME,...] [--into build/precision]

Four models are written in :mod:`benchmarks.sensitivity.nets`. Two are files that others ship, ``magika`` (MODEL of
Google's classifier of file types) and ``ppocr`` (PP-OCRv4's recognition of text): FOLDER has the unpacked wheels of
``magika`` and ``rapidocr-onnxruntime``. Without it, they are left out, and the report says so.

With ``--only``, the others are reported as an earlier call left them in the folder of ``--into``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sensitivity import samples
from benchmarks.sensitivity.report import Run, saved_runs, write_report

ROOT = Path(__file__).resolve().parents[2]
NETS = "benchmarks.sensitivity.nets"
SQNR = {"int8": 35, "int8-static": 25, "fp16": 60}


@dataclass(frozen=True, slots=True)
class Model:
    """A model: what the commands call it, or the pattern of its file; its samples; and the transforms to look at."""

    name: str
    source: str
    inputs: Callable[[], Iterable[Mapping[str, Any]]]
    about: str
    transforms: tuple[str, ...] = ("int8", "int8-static", "fp16")

    @property
    def is_file(self) -> bool:
        """True if the model is a file that others ship."""
        return self.source.endswith(".onnx")


MODELS = (
    Model("mobilenet", f"{NETS}:mobilenet", lambda: samples.image_samples(8), "smooth random images"),
    Model("resnet", f"{NETS}:resnet", lambda: samples.image_samples(8), "smooth random images"),
    Model("bert", f"{NETS}:bert", lambda: samples.token_samples(8), "token ids, frequent as in text", ("int8", "fp16")),
    Model(
        "whisper",
        f"{NETS}:whisper",
        lambda: samples.speech_samples(6),
        "spectrograms of sweeps, with tokens",
        ("int8", "fp16"),
    ),
    Model("magika", "**/standard_v3_3/model.onnx", samples.byte_samples, "the bytes of files of this repository"),
    Model(
        "ppocr",
        "**/ch_PP-OCRv4_rec_infer.onnx",
        samples.text_samples,
        "lines of drawn text",
        ("int8",),
    ),
)


def main() -> int:
    """Run the commands and write the report. Exits 1 if a command fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, help="folder with the files that others ship")
    parser.add_argument("--only", default="", help="names of models, separated by commas")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "precision")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "precision.md")
    arguments = parser.parse_args()
    chosen = [model for model in MODELS if not arguments.only or model.name in arguments.only.split(",")]
    for model in chosen:
        source = _source(model, arguments.files)
        if source is not None:
            for run in _runs(model, source, arguments.into / model.name):
                run.save()
    runs = [run for model in MODELS for run in saved_runs(arguments.into / model.name)]
    left_out = [model.name for model in MODELS if model.name not in {run.model for run in runs}]
    write_report(runs, left_out, arguments.report)
    return int(any(run.code not in {0, 1} for run in runs))


def _source(model: Model, files: Path | None) -> str | None:
    if not model.is_file:
        return model.source
    found = [] if files is None else sorted(files.glob(model.source))
    return str(found[0].resolve()) if found else None


def _runs(model: Model, source: str, folder: Path) -> Iterator[Run]:
    """The sensitivity to each transform, then the ladder."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(model.inputs()):
        np.savez(inputs / f"{number:02}.npz", **sample)
    for word in model.transforms:
        to = f"{word}?per_channel=on" if word == "int8-static" else word
        options = ["--to", to, "--sqnr", str(SQNR[word])]
        yield _run(model, source, ["sensitivity", source, *options], inputs, folder / word)
    yield _run(model, source, ["ladder", source], inputs, folder / "ladder")


def _run(model: Model, source: str, words: list[str], inputs: Path, into: Path) -> Run:
    shown = [model.name if word == source else word for word in words]
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words, "--inputs", str(inputs), "-o", str(into)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - before
    sys.stderr.write(f"{' '.join(shown)}: exit code {done.returncode}, {seconds:.0f} s\n{done.stderr[-300:]}\n")
    text = done.stdout.replace(source, model.name) or done.stderr
    return Run(model.name, model.about, " ".join(shown), done.returncode, seconds, text, into)


if __name__ == "__main__":
    raise SystemExit(main())
