"""Modules that do harm, each in one way, as a user's module might."""

from __future__ import annotations

import builtins
import copy
import ctypes
import io
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn


class _Hostile(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.harm()
        return x * 2

    def harm(self) -> None:
        raise NotImplementedError


class Segfault(_Hostile):
    def harm(self) -> None:
        ctypes.string_at(0)


class Hang(_Hostile):
    def harm(self) -> None:
        # In C, holding the interpreter's lock: no Python code can interrupt it.
        ctypes.PyDLL(None).pause()


class KillParent(_Hostile):
    def harm(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)


class Exit(_Hostile):
    def harm(self) -> None:
        sys.exit(0)


class HardExit(_Hostile):
    def harm(self) -> None:
        os._exit(0)


class AllocatesTooMuch(_Hostile):
    def harm(self) -> None:
        self.memory = torch.ones(1 << 33, dtype=torch.uint8)


class Raise(_Hostile):
    def harm(self) -> None:
        raise ValueError("this layer\nalways raises")


class Rubbish(_Hostile):
    def harm(self) -> None:
        print("rubbish on stdout")
        os.write(2, b"rubbish on stderr\n")
        print(f"{copy.__file__}:1: rubbish of Python", f"{torch.__file__}:1: rubbish of a package", sep="\n")


class Corrupt(_Hostile):
    def harm(self) -> None:
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        block = libc.malloc(64)
        ctypes.memset(block - 16, 0xFF, 96)
        libc.free(ctypes.c_void_p(block))


class Harmless(_Hostile):
    def harm(self) -> None:
        pass


class Wait(_Hostile):
    """Creates the file ``reached``, and waits for the file ``go``."""

    def harm(self) -> None:
        Path("reached").touch()
        while not Path("go").exists():
            time.sleep(0.01)


class Stubborn(_Hostile):
    """Creates the file ``reached``, and neither ends nor reacts to signals."""

    def harm(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        Path("reached").touch()
        while True:
            ctypes.PyDLL(None).pause()


class Flood(_Hostile):
    """Prints until the file that it prints to is emptied; otherwise it would fill the disk."""

    def harm(self) -> None:
        block, largest = b"flood " * 10_000 + b"\n", 0
        while (size := os.fstat(1).st_size) >= largest:
            largest = size
            if size > 1 << 33:  # a GiB is written within the 0.2 s between two polls
                raise OSError("the output is not limited")
            os.write(1, block)


class ClosesStandardStreams(_Hostile):
    """Closes the streams that others print to."""

    def harm(self) -> None:
        sys.stdout.close()
        sys.stderr = None


class Messy(_Hostile):
    """Prints the state of its process, then changes all of it."""

    def harm(self) -> None:
        when = "exporting" if torch.onnx.is_in_onnx_export() else "eager"
        state = (
            torch.get_default_dtype(),
            Path.cwd().name,
            os.environ.get("MESS"),
            random.random(),
            sys.getrecursionlimit(),
        )
        filtered = any("mess" in str(entry) for entry in warnings.filters)
        print(f"{when}: {state} {filtered} {sys.stdout is sys.__stdout__} {np.geterr()['over']}", file=sys.__stdout__)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.relu = torch.sigmoid
        os.chdir("/")
        os.environ["MESS"] = "made"
        random.seed(1)
        sys.setrecursionlimit(5000)
        warnings.filterwarnings("ignore", message="mess")
        sys.stdout = io.StringIO()
        np.seterr(over="raise")


class ClosesAllFiles(_Hostile):
    """Closes every file that it did not open."""

    def harm(self) -> None:
        os.closerange(3, 1000)


class BreaksLaterExports(_Hostile):
    """Harmless, but after it was traced the next export to ONNX in its process crashes."""

    def harm(self) -> None:
        if torch.onnx.is_in_onnx_export():
            if hasattr(builtins, "poisoned"):
                ctypes.string_at(0)
        elif torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            builtins.poisoned = True  # type: ignore[attr-defined]


class CrashInExport(_Hostile):
    """Crashes only when it is exported to ONNX."""

    def harm(self) -> None:
        if torch.onnx.is_in_onnx_export():
            ctypes.string_at(0)
