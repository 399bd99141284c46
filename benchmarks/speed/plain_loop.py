"""The loop that an engineer would write: public calls only, each layer on each target, compared with eager torch.

    python -m benchmarks.speed.plain_loop CASES.json

Nothing is cached or shared beyond what such a loop does. A failed export is counted, and the loop continues.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from torch import nn

from harness.fixes import translation_table

Answer = tuple[torch.Tensor, ...]


def main(cases: Path) -> None:
    """Run every case on every target, and print how many of the checks passed."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    passed = done = 0
    with tempfile.TemporaryDirectory() as folder:
        for layer, args, shape in json.loads(cases.read_text(encoding="utf-8")):
            sized = {name: tuple(value) if isinstance(value, list) else value for name, value in args.items()}
            module, x = getattr(nn, layer)(**sized).eval(), torch.randn(shape)
            for target in (by_trace, by_script, by_torchscript, by_dynamo_18, by_dynamo_23, by_dynamo_23_fixed):
                done += 1
                passed += agrees(target, module, x, Path(folder))
    print(f"{passed} of {done}")


def agrees(target: Callable[..., Answer], module: nn.Module, x: torch.Tensor, folder: Path) -> bool:
    """Return whether the exported file agrees with eager torch."""
    try:
        with torch.no_grad():
            expected = several(module(x.clone()))
        torch.testing.assert_close(target(module, x.clone(), folder), expected, equal_nan=True)
    except Exception:  # noqa: BLE001 - after any exception the check has not passed
        return False
    return True


def by_trace(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """trace/torch-cpu."""
    return loaded(torch.jit.trace(module, x), x, folder)  # type: ignore[no-untyped-call]


def by_script(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """script/torch-cpu."""
    return loaded(torch.jit.script(module), x, folder)


def by_torchscript(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """onnx-torchscript@17/ort-cpu."""
    torch.onnx.export(module, (x,), folder / "m.onnx", dynamo=False, opset_version=17)
    return run(folder / "m.onnx", x)


def by_dynamo_18(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """onnx-dynamo@18/ort-cpu."""
    return by_dynamo(module, x, folder, opset_version=18)


def by_dynamo_23(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """onnx-dynamo@23/ort-cpu."""
    return by_dynamo(module, x, folder, opset_version=23)


def by_dynamo_23_fixed(module: nn.Module, x: torch.Tensor, folder: Path) -> Answer:
    """onnx-dynamo@23+fixes/ort-cpu, with the public table of corrected lowerings."""
    return by_dynamo(module, x, folder, opset_version=23, custom_translation_table=translation_table())


def by_dynamo(module: nn.Module, x: torch.Tensor, folder: Path, **options: Any) -> Answer:
    """The dynamo exporter with the options of the target."""
    torch.onnx.export(module, (x,), folder / "m.onnx", dynamo=True, external_data=False, verbose=False, **options)
    return run(folder / "m.onnx", x)


def run(path: Path, x: torch.Tensor) -> Answer:
    """Return ONNX Runtime's outputs, on one thread as in the targets."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answers = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return tuple(torch.from_numpy(answer) for answer in answers)


def loaded(module: Any, x: torch.Tensor, folder: Path) -> Answer:
    """Save and load the module, and return its outputs."""
    module.save(str(folder / "m.pt"))
    return several(torch.jit.load(folder / "m.pt")(x))  # type: ignore[no-untyped-call]


def several(answer: Any) -> Answer:
    """Return a tuple of tensors, also for a single tensor."""
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
