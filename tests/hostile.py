"""Modules that do harm, each in one way, as a user's own module might."""

from __future__ import annotations

import ctypes
import os
import sys

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


class Exit(_Hostile):
    def harm(self) -> None:
        sys.exit(0)


class HardExit(_Hostile):
    def harm(self) -> None:
        os._exit(0)


class Hog(_Hostile):
    def harm(self) -> None:
        self.held = torch.ones(1 << 33, dtype=torch.uint8)


class Raise(_Hostile):
    def harm(self) -> None:
        raise ValueError("this layer\nalways raises")


class Rubbish(_Hostile):
    def harm(self) -> None:
        print("rubbish on stdout")
        os.write(2, b"rubbish on stderr\n")


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
