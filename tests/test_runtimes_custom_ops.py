"""Libraries of custom operators: loaded with consent, from the folder of the specs, and refused in one line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call

Spec = Callable[[str, str], Path]
RELU = """
harness: 1
layer: ReLU
cases: [{name: case, inputs: {x: {shape: [3]}}}]
"""
# It registers no operator, and leaves a file that shows that it was called.
SOURCE = """
#include <stdio.h>
void *RegisterCustomOps(void *options, void *api) {
    FILE *file = fopen(REGISTERED, "w");
    if (file) fclose(file);
    return 0;
}
"""
TARGET = "onnx-torchscript@17/ort-cpu?custom_ops=ops/libfoo.so"


def run(harness: Call, *more: str, target: str = TARGET) -> tuple[int, str]:
    ran = harness("run", "specs", "--no-latency", "--targets", target, *more)
    return ran.code, ran.err or ran.report["results"][0]["message"] or ""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler to make a library with")
def test_a_library_is_registered_with_consent_only(harness: Call, spec: Spec, here: Path) -> None:
    folder = spec("relu.yaml", RELU).parent / "ops"
    folder.mkdir()
    (here / "foo.c").write_text(SOURCE, encoding="utf-8")
    registered = here / "registered"
    compiled = ["gcc", "-shared", "-fPIC", f'-DREGISTERED="{registered}"', "-o", str(folder / "libfoo.so")]
    subprocess.run([*compiled, str(here / "foo.c")], check=True)
    code, text = run(harness)
    assert (code, "would run code; pass --allow-import" in text, registered.exists()) == (2, True, False)
    assert run(harness, "--allow-import") == (0, "")
    assert registered.exists()


def test_a_library_that_cannot_be_loaded_is_one_line(harness: Call, spec: Spec, here: Path) -> None:
    folder = spec("relu.yaml", RELU).parent
    code, text = run(harness, "--allow-import")
    assert (code, len(text.splitlines())) == (2, 1)
    assert "no such file in specs; write it relative to this folder" in text
    code, text = run(harness, "--allow-import", target="onnx-torchscript@17/ort-cpu?custom_ops=../out.so")
    assert code == 2
    assert "leads out of the folder specs" in text
    (here / "out.so").write_bytes(b"no library")
    (folder / "link.so").symlink_to(here / "out.so")
    code, text = run(harness, "--allow-import", target="onnx-torchscript@17/ort-cpu?custom_ops=link.so")
    assert code == 2
    assert "leads out of the folder specs" in text
    (folder / "bad.so").write_bytes(b"no library")
    code, text = run(harness, "--allow-import", target="onnx-torchscript@17/ort-cpu?custom_ops=bad.so")
    assert (code, len(text.splitlines())) == (1, 1)
    assert "bad.so" in text
