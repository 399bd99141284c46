"""What ``--layers`` costs: the CPU time of a check with the layer table beside that of the check alone.

    python -m benchmarks.layer_faults.cost [--only WORD] [--write]

A ResNet-50 at 224 px and a transformer of twelve layers in BERT's sizes, with random weights, exported by both ONNX
exporters. Each check is made without layers twice, because the first one of an exporter loads libraries, and then with
them. Writes its part of reports/layer-cost.md. Exit code 1 if a check with its layers takes more than three times its
own time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from benchmarks.layer_faults import ROOT, chosen_options, versions_text, write_cost
from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.files.contexts import CaseContexts
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.engine.processes import serving
from harness.result import Result
from harness.scaffold.comparison import cases_of
from harness.spec.language.case import Case
from harness.spec.targets import parse_target

ALLOWED = 3.0
TARGETS = ("onnx-torchscript@17/ort-cpu", "onnx-dynamo@23/ort-cpu")
TOKENS = {"shape": [1, 128], "dtype": "int64", "fill": {"integers": [0, 30000]}}
MODELS: Mapping[str, Mapping[str, object]] = {
    "ResNet-50 at 224 px": {"factory": "ResNet50", "inputs": {"image": {"shape": [1, 3, 224, 224]}}},
    "transformer, 12 layers, 128 tokens": {"factory": "Transformer", "inputs": {"tokens": TOKENS}},
}


class Bottleneck(nn.Module):
    """The block of a ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if stride != 1 or channels != wide:
            self.downsample = nn.Sequential(nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        answer: torch.Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return answer


class ResNet50(nn.Module):
    """As in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        channels, stages = 64, []
        for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for stride in (first, *[1] * (blocks - 1)):
                stages.append(Bottleneck(channels, width, stride))
                channels = 4 * width
        self.blocks = nn.Sequential(*stages)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, 1000)

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.blocks(self.maxpool(self.relu(self.bn1(self.conv1(image)))))
        answer: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return answer


class Block(nn.Module):
    """The block of an encoder, with attention written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.act, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        batch, length, width = x.shape
        form = (batch, length, self.heads, width // self.heads)
        query, key, value = (each(x).view(form).transpose(1, 2) for each in (self.query, self.key, self.value))
        attended = torch.softmax(query @ key.transpose(-1, -2) / form[-1] ** 0.5, -1) @ value
        x = self.norm1(x + self.out(attended.transpose(1, 2).reshape(x.shape)))
        answer: torch.Tensor = self.norm2(x + self.down(self.act(self.up(x))))
        return answer


class Transformer(nn.Module):
    """An encoder with the sizes of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(30522, 768), nn.Embedding(512, 768), nn.LayerNorm(768)
        self.blocks = nn.Sequential(*(Block(768, 12) for _ in range(12)))
        self.head = nn.Linear(768, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = self.norm(self.words(tokens) + self.places(torch.arange(tokens.shape[1])))
        answer: torch.Tensor = self.head(self.blocks(x)[:, 0])
        return answer


def main() -> int:
    """Measure every model on every target, print and write the report."""
    options = chosen_options(__doc__, "models", "reports/layer-cost.md")
    serving.load_for_specs()
    rows = []
    for name, keys in MODELS.items():
        if options.only in name:
            for row in _measured(name, keys):
                print(*row[:3], *(f"{number:.1f}" for number in row[3:]), flush=True)
                rows.append(row)
    text = "\n".join(
        (
            "# What layers cost",
            "",
            (
                "`python -m benchmarks.layer_faults.cost --write`: CPU seconds of a check on one core, from building "
                f"the model to the verdict, without and with `--layers`. At most 3 times is allowed. {versions_text()}."
            ),
            "",
            tabulate(
                rows,
                ["model", "target", "layers", "check (s)", "with layers (s)", "times"],
                tablefmt="github",
                floatfmt=".1f",
            ),
            "",
        )
    )
    if options.write:
        write_cost(text)
    print(text)
    return 0 if rows and all(row[-1] <= ALLOWED for row in rows) else 1


def _measured(name: str, keys: Mapping[str, object]) -> Iterator[tuple[str, str, int, float, float, float]]:
    factory = f"benchmarks.layer_faults.cost:{keys['factory']}"
    (case,) = cases_of({"harness": 1, "cases": [{"name": "model", **keys, "factory": factory}]}, "cost", ROOT)
    for target in TARGETS:
        _checked(case, target, layers=False)
        _, alone = _checked(case, target, layers=False)
        result, together = _checked(case, target, layers=True)
        if result.status != "passed" or not result.layers:
            raise SystemExit(f"{name} on {target}: {result.status}: {result.message}; {result.notes}")
        compared = sum(layer.local is not None for layer in result.layers)
        yield name, target, compared, alone, together, together / alone


def _checked(case: Case, target: str, *, layers: bool) -> tuple[Result, float]:
    """The result, and the CPU seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        parsed, scratch = parse_target(target), Path(folder)
        context = CaseContexts(case, ArtifactCache(None, scratch)).of(parsed)
        settings, clock = Settings(latency=False, layers=layers), Clock(lambda _stage: None, scratch)
        began = time.process_time()
        return check(context, parsed, settings, clock), time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
