"""How long each operation of a torch module takes, by torch's own profiler, and each layer of eager torch, by hooks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runtimes import NodeTimes
from harness.runtimes._profiles.node_times import Event, node_times, read_trace, span_of

if TYPE_CHECKING:
    from torch import nn

WARMUP = 3
"""Calls before those that count: TorchScript optimizes a module in its first calls."""
_RUN = "harness run"
_PARENT = "forward"
_NOT_PARTS = {"TOP", "SELF"}
# One module of TorchScript's hierarchy: ``features(Sequential)::forward``.
_MODULE = re.compile(r"(?P<name>[^.()]+)\([^)]*\)::")


def profiled_times(call: Callable[[], object], runs: int, trace: Path) -> tuple[NodeTimes, ...]:
    """The operations of ``call`` that no other operation called, with their times in ``runs`` runs."""
    from torch import profiler

    for _ in range(WARMUP):
        call()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], with_modules=True) as profile:
        for _ in range(runs):
            with profiler.record_function(_RUN):
                call()
    profile.export_chrome_trace(str(trace))
    events = read_trace(trace)
    spans = sorted(span_of(event) for event in events if event["name"] == _RUN)
    return node_times((_event(event) for event in events if _is_operation(event)), spans)


def _is_operation(event: dict[str, Any]) -> bool:
    return event.get("cat") == "cpu_op" and event["name"] != _PARENT


def _event(event: dict[str, Any]) -> Event:
    hierarchy = str(event.get("args", {}).get("Module Hierarchy", ""))
    names = (match["name"] for match in _MODULE.finditer(hierarchy))
    name = str(event["name"])
    module = ".".join(each for each in names if each not in _NOT_PARTS)
    return Event(NodeTimes(name, name, "torch", module), *span_of(event))


def layer_times(module: nn.Module, call: Callable[[], object], runs: int) -> tuple[NodeTimes, ...]:
    """Each call of a layer of ``module`` in eager torch, with its time in ``runs`` runs of ``call``.

    A layer is a module without modules of its own. What a forward computes outside of its layers is not in it.
    """
    from time import perf_counter_ns

    events: list[Event] = []
    begun: list[float] = []

    def before(*_arguments: Any) -> None:
        begun.append(perf_counter_ns() / 1e3)

    def after_call_of(path: str) -> Callable[..., None]:
        def after(layer: nn.Module, *_arguments: Any) -> None:
            node = NodeTimes(path, type(layer).__name__, "eager", path)
            events.append(Event(node, begun.pop(), perf_counter_ns() / 1e3))

        return after

    hooks = []
    for path, layer in module.named_modules():
        if next(layer.children(), None) is None:
            hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after_call_of(path))]
    spans = []
    try:
        for number in range(WARMUP + runs):
            begin = perf_counter_ns() / 1e3
            call()
            if number >= WARMUP:
                spans.append((begin, perf_counter_ns() / 1e3))
    finally:
        for hook in hooks:
            hook.remove()
    return node_times(events, spans)
