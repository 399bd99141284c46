"""Export a model of ``nets.py``, compare the file with it by hand, and print how many seconds each step took.

    python -m benchmarks.real_models.plain NAME

Writes NAME.onnx, NAME-wrong.onnx (the same weights with one other setting) and NAME.npz (the inputs) to
build/real_models.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from benchmarks.real_models import nets


def inputs_of(name: str, seed: int) -> tuple[Any, ...]:
    """What ``forward`` of the model takes."""
    torch.manual_seed(seed)
    if name in {"resnet50", "vit_b_16"}:
        return (torch.randn(1, 3, 224, 224),)
    if name == "ssdlite":
        return ([torch.rand(3, 320, 320)],)
    if name == "fasterrcnn":
        return ([torch.rand(3, 128, 160)],)
    if name == "bert":
        return torch.randint(nets.WORDS, (2, 16)), torch.ones(2, 16, dtype=torch.int64)
    if name == "gpt2":
        shape = (1, nets.HEADS, 4, nets.WIDTH // nets.HEADS)
        past = [{"key": torch.randn(shape), "value": torch.randn(shape)} for _ in range(nets.LAYERS)]
        return torch.randint(nets.WORDS, (1, 1)), past
    encoder = torch.randint(nets.WORDS, (1, 100)) if name == "t5" else torch.randn(1, 80, 200)
    return encoder, torch.randint(nets.WORDS, (1, 12))


NAMES = {
    "resnet50": (["x"], ["y"]),
    "vit_b_16": (["x"], ["y"]),
    "ssdlite": (["images.0"], ["0.boxes", "0.scores", "0.labels"]),
    "fasterrcnn": (["images.0"], ["0.boxes", "0.labels", "0.scores"]),
    "bert": (["input_ids", "attention_mask"], ["logits"]),
    "gpt2": (
        ["input_ids", *[f"past.{i}.{part}" for i in range(nets.LAYERS) for part in ("key", "value")]],
        ["logits", *[f"present.{i}.{part}" for i in range(nets.LAYERS) for part in ("key", "value")]],
    ),
    "t5": (["encoder_input", "decoder_input_ids"], ["logits"]),
    "whisper": (["encoder_input", "decoder_input_ids"], ["logits"]),
}
NOT_BY_DYNAMO = {"ssdlite", "fasterrcnn", "t5"}
FOLDER = Path("build/real_models")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    started = time.perf_counter()
    yield
    print(f"{what} {time.perf_counter() - started:.1f} s", flush=True)


def export(module: nn.Module, name: str, path: Path) -> None:
    """Write ``module`` to ``path``."""
    inputs = inputs_of(name, 0)
    options: dict[str, Any] = dict(zip(("input_names", "output_names"), NAMES[name], strict=True))
    if name in NOT_BY_DYNAMO:
        options |= {"dynamo": False}
    elif name == "gpt2":
        axes = pytree.tree_map(lambda tensor: {2: "P"} if tensor.dim() == 4 else {}, inputs)
        options |= {"dynamo": True, "external_data": False, "dynamic_shapes": axes}
    else:
        options |= {"dynamo": True, "external_data": False}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, path, **options)


def compare(session: Any, module: nn.Module, name: str) -> None:
    """Print how far the file is from the module at two sets of inputs; GPT-2 for 8 words, each side with its cache."""
    for seed in (0, 1):
        inputs = inputs_of(name, seed)
        leaves = [leaf.numpy() for leaf in pytree.tree_leaves(inputs)]
        for _ in range(8 if name == "gpt2" else 1):
            with torch.no_grad():
                returned = module(*inputs)
            expected = [leaf.numpy() for leaf in pytree.tree_leaves(returned)]
            actual = session.run(None, dict(zip([each.name for each in session.get_inputs()], leaves, strict=True)))
            if name == "gpt2":
                inputs, leaves = (inputs[0], returned["present"]), [leaves[0], *actual[1:]]
        for label, one, other in zip(NAMES[name][1], actual, expected, strict=True):
            same = one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-5)
            far = f"expected {other.shape}"
            if one.shape == other.shape and one.size:
                far = f"{np.abs(one - other).max():.2g} of {np.abs(other).max():.3g}"
            print(f"  {label} {one.shape} {'same' if same else 'DIFFERENT'}, {far}")


def main() -> None:
    """Export, run and compare."""
    name = sys.argv[1]
    FOLDER.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with timed("imports"):
        import onnxruntime

        __import__("torchvision" if name in {"resnet50", "vit_b_16", "ssdlite", "fasterrcnn"} else "transformers")
    with timed("build"):
        module = getattr(nets, name)()
    with timed("export"):
        export(module, name, FOLDER / f"{name}.onnx")
    with timed("load"):
        session = onnxruntime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
    with timed("run and compare"):
        compare(session, module, name)
    print(f"all {time.perf_counter() - started:.1f} s")
    leaves = [leaf.numpy() for leaf in pytree.tree_leaves(inputs_of(name, 2))]
    arrays: dict[str, Any] = dict(zip(NAMES[name][0], leaves, strict=True))
    np.savez(FOLDER / f"{name}.npz", **arrays)
    export(getattr(nets, name)(fault=True), name, FOLDER / f"{name}-wrong.onnx")
    wrong = onnxruntime.InferenceSession(FOLDER / f"{name}-wrong.onnx", providers=["CPUExecutionProvider"])
    print("the wrong file:")
    compare(wrong, module, name)


if __name__ == "__main__":
    main()
