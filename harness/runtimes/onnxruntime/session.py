"""A loaded ONNX model: runs, bound runs, and where its nodes run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.runtimes import Array, Placement, Value, owned
from harness.runtimes.onnxruntime.placement import Assigned, place, profiled, recorded, shape_arithmetic
from harness.runtimes.onnxruntime.providers import CPU, Provider
from harness.runtimes.onnxruntime.refusals import refusals_named
from harness.runtimes.onnxruntime.values import from_value, needs_values, require_tensors, to_value


class OrtSession:
    """An ``InferenceSession`` on one execution provider. Inputs and outputs go by the model's own names.

    ``create`` makes another session of the same model, ``about`` says on which device and in which versions, and
    ``records`` says whether it can tell where nodes run.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Mapping[str, str],
        path: Path,
        create: Callable[..., Any],
        about: Mapping[str, str],
        *,
        allowed: Collection[str],
        records: bool,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._path = path
        self._create = create
        self._about = about
        self._allowed = allowed
        self._records = records
        self._session = create()
        self._outputs = {output.name: output.type for output in self._session.get_outputs()}
        self._types = {item.name: item.type for item in self._session.get_inputs()} | self._outputs
        self._last: dict[str, Value] = {}
        self._answered = False
        self._kept: list[object] = []

    @property
    def providers(self) -> list[str]:
        """What onnxruntime says that the session uses; it may list one that runs nothing."""
        return list(self._session.get_providers())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by the model's names. onnxruntime itself objects to a name or a shape that the model lacks."""
        require_tensors(self._types)
        return {name: np.asarray(answer) for name, answer in self.answer(inputs).items()}

    def answer(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """The same for inputs and outputs of any kind.

        Raises :class:`harness.errors.Unsupported` for sequences, maps or optionals beside a dtype that only an
        OrtValue holds: bfloat16 and narrower.
        """
        # Not shared with the session's buffers, nor with an input that the model hands through.
        with refusals_named():
            if not needs_values(self._types):
                answers = [owned(value) for value in self._session.run(None, dict(inputs))]
            else:
                require_tensors(self._types)
                binding = self._bound({name: np.asarray(value) for name, value in inputs.items()}, "cpu")
                self._session.run_with_iobinding(binding)
                answers = [from_value(value) for value in binding.get_outputs()]
                self._kept.pop()
        if not self._records:
            self._last, self._answered = {name: owned(value) for name, value in inputs.items()}, True
        return dict(zip(self._outputs, answers, strict=True))

    def bind(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call on inputs that are on the device, with outputs that stay there; ``iobinding=off`` passes arrays."""
        require_tensors(self._types)
        if self._settings["iobinding"] == "off" and not needs_values(self._types):
            return partial(self._session.run, None, _copies(inputs))
        return self._bound_call(self._bound(inputs, self._provider.memory))

    def placement(self) -> Placement | None:
        """By provider and operator, with the nodes that are not where they should be.

        None where nothing was answered yet and onnxruntime is older than 1.24, which shows it by running again.
        """
        if not (self._records or self._answered):
            return None
        nodes = self._assigned()
        elsewhere = any(node.ep == CPU for node in nodes) and self._provider.ep != CPU
        return place(self._provider.ep, nodes, self._allowed, self._shape_nodes if elsewhere else ())

    def facts(self) -> Mapping[str, Any]:
        """What the figures depend on, with the provider options that the session really has."""
        tf32 = self._settings.get("tf32")
        chosen = self._session.get_provider_options().get(self._provider.ep, {})
        return {
            "precision": "as exported" if tf32 is None else f"as exported, TF32 {tf32}",
            **({} if tf32 is None else {"tf32": tf32}),
            "threads": int(self._settings["threads"]),
            "optimization": self._settings["optimization"],
            "iobinding": self._settings["iobinding"],
            **self._about,
            **({"provider_options": dict(chosen)} if chosen else {}),
        }

    def close(self) -> None:
        """Give the session back, and what bound calls needed."""
        del self._session
        self._kept.clear()

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        return partial(self._session.run_with_iobinding, binding)

    def _bound(self, inputs: Mapping[str, Array], memory: str, session: Any = None) -> Any:
        """A binding with ``inputs`` carried to where the session wants them, and outputs left in ``memory``.

        Of this session, or of another one of the same file.
        """
        given = _copies(inputs)
        values = {name: to_value(array) for name, array in given.items()}
        self._kept.append((given, values))  # the values share the arrays' memory, and the binding the values'
        binding = (session or self._session).io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, memory)
        binding.synchronize_inputs()
        return binding

    def _assigned(self) -> list[Assigned]:
        return recorded(self._session) if self._records else self._profile()

    def _profile(self) -> list[Assigned]:
        """A second session, profiled, on the inputs of the last run: profiling must never be on where time is taken."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._create(profile=str(Path(folder) / "profile"))
            if needs_values(self._types):
                arrays = {name: np.asarray(value) for name, value in self._last.items()}
                session.run_with_iobinding(self._bound(arrays, "cpu", session))
                self._kept.pop()
            else:
                session.run(None, self._last)
            return profiled(Path(session.end_profiling()))

    @cached_property
    def _shape_nodes(self) -> frozenset[str]:
        import onnx

        return shape_arithmetic(onnx.load(self._path, load_external_data=False).graph)


class DeviceOrtSession(OrtSession):
    """A session whose outputs stay on a device: every bound call waits for it, and transfers can be timed apart."""

    def transfer(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """Inputs to the device, outputs of one run back."""
        binding = self._bound(inputs, self._provider.memory)
        self._session.run_with_iobinding(binding)
        values = {name: to_value(array) for name, array in _copies(inputs).items()}

        def carried() -> object:
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            binding.synchronize_inputs()
            return binding.copy_outputs_to_cpu()

        return carried

    def _bound_call(self, binding: Any) -> Callable[[], object]:
        run = super()._bound_call(binding)

        def waited() -> None:
            run()
            binding.synchronize_outputs()

        return waited


def _copies(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array, order="C") for name, array in inputs.items()}
