"""What ``harness explain`` costs: the CPU time of its processes beside those of ``harness run`` on the same check.

    python -m benchmarks.layer_faults.explain_cost [--only WORD] [--write]

Nets of 48 to 60 layers are exported by both ONNX exporters, and the weight of the middle layer is negated. The check of
such a file fails, and has its layer table by itself. The CPU time is that of all processes of the command, from its
start to its end, libraries included, so that other work on the machine hardly changes it. A file under test is not
shrunk. The second ``explain`` finds what the first one kept.

Writes its part of reports/layer-cost.md. Exit code 1 if an explanation takes more than three times the check, or if it
does not name the layer.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from onnx import numpy_helper
from tabulate import tabulate
from torch import nn

from benchmarks.layer_faults import ROOT, chosen_options, versions_text, write_cost
from benchmarks.layer_faults.net import net as many_layers

ALLOWED = 3.0
PR_SET_CHILD_SUBREAPER = 36
HEADERS = ("net", "exporter", "layers", "check (CPU s)", "explain (CPU s)", "times", "second explain (CPU s)")


Row = tuple[str, str, int, float, float, float, float]


class Residual(nn.Module):
    """A function of ``inner`` added to its input."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        added: torch.Tensor = x + self.inner(x)
        return added


def smallest() -> nn.Module:
    """What takes time whatever the net is: the start, and the libraries."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU())


def perceptron() -> nn.Module:
    """25 linear layers with activations."""
    return nn.Sequential(*(layer for _ in range(25) for layer in (nn.Linear(64, 64), nn.Tanh())))


def convolutions() -> nn.Module:
    """17 convolutions with normalizations and activations."""
    blocks = (layer for _ in range(17) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU()))
    return nn.Sequential(*blocks)


def residuals() -> nn.Module:
    """Blocks as in a ResNet."""
    inner = ((nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)) for _ in range(13))
    return nn.Sequential(*(Residual(*each) for each in inner))


def mixer() -> nn.Module:
    """Feed-forward blocks after normalizations."""
    blocks = ((nn.LayerNorm(64), nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)) for _ in range(13))
    return nn.Sequential(*(Residual(*each) for each in blocks))


def encoder() -> nn.Module:
    """The blocks of a transformer, as torch has them."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 6)


def many() -> nn.Module:
    """The net of :mod:`benchmarks.layer_faults`."""
    return many_layers()


NETS: Mapping[Callable[[], nn.Module], tuple[int, ...]] = {
    smallest: (4, 64),
    perceptron: (4, 64),
    convolutions: (1, 8, 16, 16),
    residuals: (1, 8, 16, 16),
    mixer: (2, 16, 64),
    encoder: (2, 16, 64),
    many: (2, 3, 16, 16),
}


def main() -> int:
    """Measure each net of each exporter, print and write the report."""
    options = chosen_options(__doc__, "nets", "reports/layer-cost.md")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    rows = []
    for make, shape in NETS.items():
        if options.only in make.__name__:
            for row in _measured(make, shape):
                print(*row, flush=True)
                rows.append(row)
    text = report(rows)
    if options.write:
        write_cost(text)
    print(text)
    return 0 if rows and all(row[5] <= ALLOWED for row in rows) else 1


def report(rows: Sequence[Row]) -> str:
    """The part of the report as Markdown."""
    return "\n".join(
        (
            "# What an explanation costs",
            "",
            (
                "`python -m benchmarks.layer_faults.explain_cost --write`: `harness explain` of a fault planted in the "
                "middle of a file, beside `harness run` of the same check, whose row has its layer table. CPU seconds "
                "of all processes of a command from its start to its end, libraries included, one run each. "
                f"Other work ran at the same time (load {os.getloadavg()[2]:.0f}), which CPU time hardly shows. "
                "`smallest` shows what the start and the libraries take. "
                f"At most {ALLOWED:g} times is allowed. {versions_text()}."
            ),
            "",
            tabulate(rows, HEADERS, tablefmt="github", floatfmt=".2f"),
            "",
        )
    )


def _measured(make: Callable[[], nn.Module], shape: Sequence[int]) -> Iterator[Row]:
    for exporter in ("onnx-torchscript", "onnx-dynamo"):
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            module = make().eval()
            for part in module.modules():
                if isinstance(part, nn.Conv2d | nn.Linear):  # with torch's own weights a deep net forgets its input
                    nn.init.xavier_normal_(part.weight, gain=1.6)
            torch.save(module.state_dict(), Path(folder) / "net.pt")
            _faulty_file(module, torch.randn(*shape), Path(folder) / "net.onnx", dynamo=exporter == "onnx-dynamo")
            case = {
                "name": "net",
                "factory": f"benchmarks.layer_faults.explain_cost:{make.__name__}",
                "weights": "net.pt",
                "inputs": {"x": {"shape": list(shape)}},
                "files": {"faulty": "net.onnx"},
            }
            spec = Path(folder) / "spec.yaml"
            spec.write_text(yaml.safe_dump({"harness": 1, "cases": [case]}), encoding="utf-8")
            target = "file:faulty/ort-cpu"
            run = ("run", "spec.yaml", "--targets", target, "--no-latency", "--no-cache", "-q", "--format", "json")
            check, _ = _cpu_seconds(folder, *run)
            explain = ("explain", "spec/net", "spec.yaml", "--target", target)
            seconds, text = _cpu_seconds(folder, *explain)
            if "one step at " not in text:
                raise SystemExit(f"{make.__name__} of {exporter}: no layer is named\n{text}")
            again, text = _cpu_seconds(folder, *explain)
            if "as explained on" not in text:
                raise SystemExit(f"{make.__name__} of {exporter}: nothing was kept")
            layers = sum(not any(each.children()) for each in module.modules())
            yield make.__name__, exporter, layers, check, seconds, seconds / check, again


def _faulty_file(module: nn.Module, inputs: torch.Tensor, path: Path, *, dynamo: bool) -> None:
    """Export ``module``, with the middle one of its weights that are matrices negated."""
    opset = 20 if dynamo else 17
    torch.onnx.export(
        module, (inputs,), str(path), dynamo=dynamo, opset_version=opset, input_names=["x"], verbose=False
    )
    model = onnx.load(str(path))
    weights = [
        each for each in model.graph.initializer if len(each.dims) > 1 and each.data_type == onnx.TensorProto.FLOAT
    ]
    weight = weights[len(weights) // 2]
    values = np.asarray(numpy_helper.to_array(weight))
    weight.CopyFrom(numpy_helper.from_array(-values, weight.name))
    onnx.save(model, str(path))


def _cpu_seconds(folder: str, *arguments: str) -> tuple[float, str]:
    """The CPU time of a command and all processes below it, and what it printed.

    The servers of harness outlive the command for a moment. They become children of this process, which waits.
    """
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": folder}
    command = [sys.executable, "-W", "ignore", "-m", "harness", *arguments, "--allow-import"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 1:
        raise SystemExit(f"{' '.join(arguments)}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, ran.stdout + ran.stderr


if __name__ == "__main__":
    sys.exit(main())
