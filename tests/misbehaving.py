"""Modules that do not end with a result or an ordinary exception."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

SYS_EXIT = {"x86_64": 60, "aarch64": 93}
CAPSET = {"x86_64": 126, "aarch64": 91}


class CustomExit(BaseException):
    """An exception that is not an ``Exception``."""


class _Misbehaving(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.misbehave()
        return x * 2

    def misbehave(self) -> None:
        raise NotImplementedError


class Harmless(_Misbehaving):
    def misbehave(self) -> None:
        pass


class Interrupts(_Misbehaving):
    def misbehave(self) -> NoReturn:
        raise KeyboardInterrupt("said by the module")


class InterruptsInConstructor(_Misbehaving):
    def __init__(self) -> None:
        raise KeyboardInterrupt("said by the constructor")


class InterruptsWhenTraced(_Misbehaving):
    def misbehave(self) -> None:
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise KeyboardInterrupt("said while it is traced")


class Closes(_Misbehaving):
    def misbehave(self) -> NoReturn:
        raise GeneratorExit


class RaisesCustomExit(_Misbehaving):
    def misbehave(self) -> NoReturn:
        raise CustomExit("my reason")


class CustomExitFromASignal(_Misbehaving):
    """Raises an exception in its own signal handler."""

    def misbehave(self) -> None:
        def over(*_: object) -> NoReturn:
            raise CustomExit("my own limit")

        signal.signal(signal.SIGUSR1, over)
        os.kill(os.getpid(), signal.SIGUSR1)


class KilledByItsOwnAlarm(_Misbehaving):
    """Sends itself the signal of the time limit, long before the limit."""

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGALRM)


class WithoutMessage(_Misbehaving):
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    def misbehave(self) -> NoReturn:
        raise self.Silent


class EndlessMessage(_Misbehaving):
    def misbehave(self) -> NoReturn:
        raise ValueError("x" * 50 * 2**20)


class Unprintable(_Misbehaving):
    def misbehave(self) -> NoReturn:
        print("/" * 2**20)
        raise ValueError("\x1b[2J\udcff\0" + "/" * 60_000)


class EndlessExit(_Misbehaving):
    def misbehave(self) -> NoReturn:
        sys.exit("y" * 50 * 2**20)


class CircularCause(_Misbehaving):
    def misbehave(self) -> NoReturn:
        first, second = (
            ValueError("the first"),
            type("Wrapped", (RuntimeError,), {"__module__": "torch.onnx.ring"})("second"),
        )
        first.__cause__, second.__cause__ = second, first
        raise first


class OddClass(_Misbehaving):
    def misbehave(self) -> NoReturn:
        def refuse(_self: object) -> NoReturn:
            raise CustomExit("not for you")

        odd: dict[str, Any] = {"__module__": 7, "__bool__": refuse, "__cause__": property(refuse)}
        raise type("Odd\nname", (ValueError,), odd)("odd, but told")


class FullDiskElsewhere(_Misbehaving):
    def misbehave(self) -> None:
        with Path("/dev/full").open("w", encoding="utf-8") as file:
            file.write("x")


class DiskError(_Misbehaving):
    """Raises an error of the disk, such as a full quota."""

    def __init__(self, number: str) -> None:
        super().__init__()
        self.number = getattr(errno, number)

    def misbehave(self) -> NoReturn:
        raise OSError(self.number, os.strerror(self.number))


class LimitsItsFiles(_Misbehaving):
    """Limits the size of its files to 10 bytes; ``for_good`` sets a hard limit."""

    def __init__(self, *, for_good: bool) -> None:
        super().__init__()
        self.for_good = for_good

    def misbehave(self) -> None:
        if self.for_good:
            of_this_process, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert (
                ctypes.CDLL(None).syscall(CAPSET[platform.machine()], of_this_process, none) == 0
            )  # drop the capabilities of root
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10 if self.for_good else hard))
        Path("grown").write_bytes(bytes(100))


class ForksAndReturns(_Misbehaving):
    """Forks; both processes return, the new one first. ``traced``: forks only during export."""

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self.traced = traced

    def misbehave(self) -> None:
        if torch.jit.is_tracing() == self.traced and (child := os.fork()):  # type: ignore[attr-defined, no-untyped-call]
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def with_checksum(text: str) -> bytes:
    """Return a line of the journal with ``text`` and its checksum."""
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n".encode()


PASSED = {"case": "good/case", "target": "trace/torch-cpu", "status": "passed"}
FORGED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"case": "unknown/case"}, {}),
    ({"target": "unknown"}, {}),
    ({"case": ["good/case"]}, {}),
    ({"case": None}, {}),
    ({"status": "splendid"}, {}),
    ({"status": []}, {}),
    ({"stage": "lunch"}, {}),
    ({"message": 7}, {}),
    ({"notes": [7]}, {}),
    ({"log": 7}, {}),
    ({"seconds": {"build": "long"}}, {}),
    ({"seconds": 7}, {}),
    ({"outputs": [7]}, {}),
    ({"findings": 7}, {}),
    ({"latency": 7}, {}),
    ({"pictures": [7]}, {}),
    ({"mood": "good"}, {}),
    ({}, {"fingerprint": 7}),
    ({}, {"exported": "many"}),
    ({}, {"exported": -1}),
    ({}, {"result": []}),
    ({}, {"result": "passed"}),
    ({}, {"more": 7}),
]
INVALID_ENTRIES = [
    "[]",
    "null",
    "7",
    "[" * 100_000,
    *(json.dumps({"result": {**PASSED, **result}, "fingerprint": "x", **more}) for result, more in FORGED),
]
"""Lines that have a valid checksum and are not entries of the journal."""


def daemon(name: str) -> None:
    """Start a process in a new session and end its parent; the file ``name`` contains its id."""
    if (child := os.fork()) == 0:
        os.setsid()
        code = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
        subprocess.Popen([sys.executable, "-c", code, f"{name}.new"], start_new_session=True)
        while not (Path(f"{name}.new").exists() and Path(f"{name}.new").read_text(encoding="utf-8")):
            pass
        Path(f"{name}.new").rename(name)
        os._exit(0)
    os.waitpid(child, 0)


class Daemon(_Misbehaving):
    """Starts one daemon; then it returns, crashes or hangs."""

    def __init__(self, then: str) -> None:
        super().__init__()
        self.then = then

    def misbehave(self) -> None:
        if not Path(self.then).exists():
            daemon(self.then)
        if self.then == "crash":
            ctypes.string_at(0)
        while self.then == "hang":
            signal.pause()


class WatchesItsChild(_Misbehaving):
    """Starts a process and raises when it ends, as a data loader with persistent workers does."""

    def misbehave(self) -> None:
        def ended(*_: object) -> NoReturn:
            raise RuntimeError("my process has ended")

        if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
            self.process = [subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])]
            signal.signal(signal.SIGCHLD, ended)

    def __deepcopy__(self, _memo: object) -> WatchesItsChild:
        return WatchesItsChild()


class StartsAndWaits(_Misbehaving):
    """Starts a process and waits for it, as a module should."""

    def misbehave(self) -> None:
        subprocess.run([sys.executable, "-c", ""], check=True)


class WritesTheJournal(_Misbehaving):
    """Writes invalid entries with valid checksums into the run's journal."""

    def misbehave(self) -> None:
        with Path("reports/latest/journal.jsonl").open("ab") as journal:
            journal.writelines(map(with_checksum, INVALID_ENTRIES))


class KillsItsGroup(_Misbehaving):
    """Kills its process group."""

    def misbehave(self) -> None:
        os.killpg(0, signal.SIGKILL)


class StopsItsParent(_Misbehaving):
    """Stops its parent process and continues."""

    def misbehave(self) -> None:
        os.kill(os.getppid(), signal.SIGSTOP)


class AllowsNoMoreFiles(_Misbehaving):
    """Sets its limit of open files to 3, so no more can be opened."""

    def misbehave(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


class DiesSlowly(_Misbehaving):
    """Ends its main thread but not the others, as a process of many GiB looks while it ends."""

    def misbehave(self) -> None:
        threading.Thread(target=signal.pause).start()
        ctypes.CDLL(None).syscall(SYS_EXIT[platform.machine()], 0)


class Hangs(_Misbehaving):
    """Never returns. ``mib`` is the size of its weights; ``ignores_alarm`` ignores the time limit's signal."""

    def __init__(self, mib: int = 0, *, ignores_alarm: bool = False) -> None:
        super().__init__()
        self.ignores_alarm = ignores_alarm
        self.weight = nn.Parameter(torch.zeros(mib, 2**18))

    def misbehave(self) -> None:
        if self.ignores_alarm:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True:
            signal.pause()


class MisbehavesInside(nn.Module):
    """It hangs or crashes where its layer has hooks, as for the table of layers; its trace is another model."""

    def __init__(self, *, wrong: bool, then: str) -> None:
        super().__init__()
        self.layer = nn.ReLU()
        self.wrong, self.then = wrong, then

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.layer._forward_hooks or self.layer._forward_pre_hooks:
            if self.then == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            threading.Event().wait()
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        answer: torch.Tensor = self.layer(x) + (1 if traced and self.wrong else 0)
        return answer


class Asks(_Misbehaving):
    """It has weights of so many MiB, and asks for memory at each call."""

    def __init__(self, *, weights: int, asks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(weights << 18))
        self.asks = asks

    def misbehave(self) -> None:
        torch.empty(self.asks << 18)
