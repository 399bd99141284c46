"""Faults in TorchScript files: in their code, which is text, and in their weights."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

Write = Callable[[Path, Path], None]
"""Copies the file at the first path to the second with the fault."""

CALL = re.compile(r"torch\.(\w+)\(")
INTEGER = re.compile(r"(?<![\w.])-?\d+(?![\w.])")
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d*(?:[eE][-+]?\d+)?")
FLAG = re.compile(r"\b(True|False)\b")
PAIR = re.compile(r"return \((\w+), (\w+)\)")

LIKE = {
    "relu": ("sigmoid", "tanh", "abs"),
    "relu_": ("sigmoid_", "tanh_", "abs_"),
    "sigmoid": ("tanh", "relu", "sin"),
    "tanh": ("sigmoid", "relu", "sin"),
    "leaky_relu": ("elu", "celu"),
    "max_pool2d": ("max_pool2d_with_indices",),
    "prelu": ("mul", "maximum"),
    "add": ("sub", "mul"),
    "sub": ("add",),
    "mul": ("add", "div"),
    "div": ("mul",),
    "softmax": ("log_softmax",),
    "log_softmax": ("softmax",),
    "elu": ("celu", "leaky_relu"),
    "gelu": ("silu", "relu"),
    "silu": ("mish", "relu"),
    "mish": ("silu", "relu"),
    "softplus": ("softshrink",),
    "hardtanh": ("relu6",),
    "mean": ("sum",),
    "sum": ("mean",),
}


@dataclass(frozen=True, slots=True)
class ProgramFault:
    """One wrong TorchScript file."""

    kind: str
    write: Write


def program_faults(path: Path, rng: np.random.Generator) -> Iterator[ProgramFault]:
    """Yield a fault of every kind that applies to the file at ``path``."""
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    edits = [edit for name, text in texts.items() for edit in _edits(name, text, rng)]
    for kind in sorted({kind for kind, _, _ in edits}):
        alike = [edit for edit in edits if edit[0] == kind]
        _, name, text = alike[int(rng.integers(len(alike)))]
        yield ProgramFault(f"program: {kind}", _rewriting(name, text))
    yield from _of_weights(path, rng)


def _edits(name: str, text: str, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the entry of the archive, and its text with one change."""
    for match in PAIR.finditer(text):
        swapped = f"return ({match[2]}, {match[1]})"
        yield "outputs exchanged", name, text[: match.start()] + swapped + text[match.end() :]
        yield "an output dropped", name, text[: match.start()] + f"return ({match[1]},)" + text[match.end() :]
    offset = 0
    for line in text.splitlines(keepends=True):
        if CALL.search(line) and "__torch__" not in line:
            for kind, start, end, put in _of_line(line, rng):
                yield kind, name, text[: offset + start] + put + text[offset + end :]
        offset += len(line)


def _of_line(line: str, rng: np.random.Generator) -> Iterator[tuple[str, int, int, str]]:
    first = line.index("torch.")
    for match in CALL.finditer(line):
        for other in LIKE.get(match[1], ()):
            yield "another function", match.start(1), match.end(1), other
    for match in INTEGER.finditer(line, first):
        value = int(match[0]) + (1 if rng.random() < 0.7 else -1)
        yield "an integer off by one", match.start(), match.end(), str(value)
    for match in FLAG.finditer(line, first):
        yield "a flag turned", match.start(), match.end(), str(match[1] == "False")
    for match in DECIMAL.finditer(line, first):
        number = float(match[0])
        yield "a number half as large again", match.start(), match.end(), repr(number * 1.5 + 0.125)
        yield "a number off by one ULP", match.start(), match.end(), repr(math.nextafter(number, math.inf))
        single = float(np.nextafter(np.float32(number), np.float32(np.inf)))
        yield "a number off by a float32 ULP", match.start(), match.end(), repr(single)


def _rewriting(name: str, text: str) -> Write:
    def write(source: Path, into: Path) -> None:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as wrong:
            for entry in archive.infolist():
                wrong.writestr(entry.filename, text if entry.filename == name else archive.read(entry))

    return write


def _of_weights(path: Path, rng: np.random.Generator) -> Iterator[ProgramFault]:
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    names = [name for name, tensor in module.state_dict().items() if tensor.is_floating_point() and tensor.numel()]
    if not names:
        return
    name = names[int(rng.integers(len(names)))]
    at = int(rng.integers(module.state_dict()[name].numel()))

    def changed(kind: str, change: Callable[[torch.Tensor], torch.Tensor]) -> ProgramFault:
        def write(source: Path, into: Path) -> None:
            wrong = torch.jit.load(source)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                weight = wrong.state_dict()[name]
                weight.copy_(change(weight.clone()))
            wrong.save(str(into))

        return ProgramFault(f"program: weight {kind}", write)

    def one(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def put(tensor: torch.Tensor) -> torch.Tensor:
            flat = tensor.reshape(-1)
            flat[at] = change(flat[at])
            return flat.reshape(tensor.shape)

        return put

    yield changed("off by one ULP in one place", one(_next))
    yield changed("off by a thousandth in one place", one(lambda value: value * 1.001))
    yield changed("half as large again in one place", one(lambda value: value * 1.5 + 0.125))
    yield changed("off by one ULP everywhere", _next)
    yield changed("negated", torch.neg)
    yield changed("zeroed", torch.zeros_like)
    yield changed("shuffled", lambda tensor: tensor.reshape(-1).roll(1).reshape(tensor.shape))
    yield changed("stored in float16", lambda tensor: tensor.half().to(tensor.dtype))


def _next(tensor: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(tensor, torch.full_like(tensor, math.inf))
