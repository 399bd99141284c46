"""Large models: harness beside the plain script that does the same once.

    python -m benchmarks.speed.large_models NET     the plain script: build, run, export, load, run, compare

The two sides alternate. The time is of the whole process, from start to end. The memory is the highest sum, over the
process and all below it, of what is no page of a file (``Pss_Anon`` and ``Pss_Shmem`` of Linux), looked at ten times a
second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 0.1
TARGET = "onnx-dynamo/ort-cpu"


@dataclass(frozen=True)
class Net:
    """A network by name, and how much of the plain script's time and memory harness may take."""

    name: str
    title: str
    time: float
    memory: float = 1.5


NETS = (
    Net("resnet50", "ResNet-50 at 224 px", 1.1),
    Net("transformer_1gib", "a transformer of 1 GiB", 1.1),
    Net("transformer_2gib", "a transformer of 2.3 GiB", 1.3),
)


@dataclass(frozen=True)
class Cost:
    """What a process and all below it took."""

    seconds: float
    peak_mb: float


def compared(net: Net, folder: Path) -> tuple[Cost, Cost]:
    """The cost of the plain script and of ``harness run``."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / f"{net.name}.yaml"
    shape = "[1, 3, 224, 224]" if net.name == "resnet50" else "[1, 64], dtype: int64, fill: {integers: [0, 1000]}"
    spec.write_text(
        f"harness: 1\nfactory: benchmarks.speed.large_models:{net.name}\n"
        f"cases:\n  - name: {net.name}\n    inputs: {{x: {{shape: {shape}}}}}\n",
        encoding="utf-8",
    )
    plain = _cost(["-m", "benchmarks.speed.large_models", net.name], folder)
    command = ["-m", "harness", "run", str(spec), "--allow-import", "--no-cache", "--no-latency", "-j", "1"]
    return plain, _cost([*command, "--targets", TARGET, "--report-dir", str(folder / "report")], folder)


def _cost(arguments: Sequence[str], folder: Path) -> Cost:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    began, peak = time.perf_counter(), 0.0
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, stderr=output
        )
        while process.poll() is None:
            peak = max(peak, sum(_own_mb(pid) for pid in _tree(process.pid)))
            time.sleep(LOOK_S)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError((folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:])
    return Cost(seconds, peak)


def _tree(pid: int) -> list[int]:
    below: list[int] = []
    with suppress(OSError):
        below = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(each for child in below for each in _tree(child))]


def _own_mb(pid: int) -> float:
    total = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1])
    return total / 1024


# The networks


def resnet50() -> nn.Module:
    """ResNet-50: He et al., "Deep Residual Learning for Image Recognition", 2015, table 1."""
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, channels: int, width: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
                *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
                *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
            )
            self.shortcut: nn.Module = nn.Identity()
            if stride > 1 or channels != 4 * width:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
                )
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total: torch.Tensor = self.relu(self.body(x) + self.shortcut(x))
            return total

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            layers.append(Bottleneck(channels, width, stride if number == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def transformer_1gib() -> nn.Module:
    """265 million parameters in float32."""
    return _transformer(blocks=21, width=1024)


def transformer_2gib() -> nn.Module:
    """624 million parameters in float32."""
    return _transformer(blocks=22, width=1536)


def _transformer(blocks: int, width: int) -> nn.Module:
    from torch import nn
    from torch.nn import functional

    heads = width // 64

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.projections, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            batch, length, _ = x.shape
            projected = self.projections(self.before(x)).reshape(batch, length, 3, heads, width // heads)
            query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
            answer: torch.Tensor = x + self.down(functional.gelu(self.up(self.after(x))))
            return answer

    return nn.Sequential(nn.Embedding(1000, width), *(Block() for _ in range(blocks)), nn.LayerNorm(width))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet50": resnet50,
    "transformer_1gib": transformer_1gib,
    "transformer_2gib": transformer_2gib,
}


def main() -> None:
    """The plain script: what harness does, once, by public calls alone."""
    import numpy as np
    import onnxruntime
    import torch

    torch.manual_seed(0)
    name = sys.argv[1]
    module = NETWORKS[name]().eval()
    drawn = [torch.randn(1, 3, 224, 224) if name == "resnet50" else torch.randint(1000, (1, 64)) for _ in range(2)]
    with torch.no_grad():
        expected = [module(inputs).numpy() for inputs in drawn]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        torch.onnx.export(module, (drawn[0],), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for inputs, answer in zip(drawn, expected, strict=True):
            for _ in range(2):
                (actual,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
                np.testing.assert_allclose(actual, answer, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    main()
