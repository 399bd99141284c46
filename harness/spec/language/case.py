"""A case: one fully resolved configuration. Plain data; every later stage starts from here.

Seeds are derived from names, so that a case draws the same numbers whatever other cases its file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from harness.errors import Location
from harness.spec.language.tolerances import CaseTolerance

Layout = Literal["contiguous", "channels_last", "strided"]
Mode = Literal["eval", "train"]
ModelFormat = Literal["onnx", "ort", "torchscript", "program", "aoti"]
FillKind = Literal["normal", "uniform", "integers", "arange", "ones", "zeros", "full", "choice"]
RANDOM_FILLS = frozenset({"normal", "uniform", "integers", "choice"})


@dataclass(frozen=True, slots=True)
class Fill:
    """How a tensor without literal values is filled.

    ``parameters`` are ``(low, high)`` for ``uniform`` and ``integers`` (``integers`` includes both ends), ``(value,)``
    for ``full``, the values for ``choice``, and empty for the others.
    """

    kind: FillKind
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class FileSource:
    """Where a tensor's values are: the array ``key`` of the data file at ``path``, None if it is the only one.

    ``digest`` is that of the file. It stands for the values in every key and fingerprint; the path does not count.
    """

    digest: str
    key: str | None
    path: str = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: literal ``values`` (nested tuples), a ``source`` in a file, or a ``fill`` with its own seed.

    ``takes_shape`` is True for a weight that is filled in the shape of its parameter; ``shape`` is then ``()`` and
    unused.
    """

    label: str
    dtype: str
    shape: tuple[int, ...]
    values: Any | None = None
    fill: Fill | None = None
    layout: Layout = "contiguous"
    seed: int = 0
    takes_shape: bool = False
    source: FileSource | None = None

    @property
    def is_literal(self) -> bool:
        """True if the values are given, in the spec or in a file: the tensor has only one shape."""
        return self.values is not None or self.source is not None

    @property
    def is_random(self) -> bool:
        """True if another seed gives other values."""
        return not self.is_literal and (self.fill is None or self.fill.kind in RANDOM_FILLS)


@dataclass(frozen=True, slots=True)
class InputSet:
    """One set of inputs of a case, as :mod:`harness.spec.language.inputs.draws` makes them.

    ``at`` names it in messages, None for the first one.

    ``draw`` counts the sets with the same shapes. ``chosen_by_harness`` is True if the
    spec does not name the shapes: the model may refuse them.
    """

    inputs: tuple[TensorSpec, ...]
    at: str | None = None
    draw: int = 1
    chosen_by_harness: bool = False


@dataclass(frozen=True, slots=True)
class LayerModel:
    """One layer by its ``torch.nn`` class name; ``forward`` holds constant keyword arguments of ``forward``."""

    layer: str
    args: Mapping[str, Any] = field(default_factory=dict)
    forward: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation(LayerModel):
    """A tensor operation of a graph in place of a layer: ``layer`` is its name in torch, such as ``cat``."""


@dataclass(frozen=True, slots=True)
class SequentialModel:
    """Layers one after another: a ``torch.nn.Sequential``."""

    steps: tuple[LayerModel, ...]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One layer or operation of a graph, with the names of its input and output values."""

    layer: LayerModel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphModel:
    """Layers wired by value names; the case's input labels are the first names."""

    nodes: tuple[GraphNode, ...]
    returns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactoryModel:
    """A user's ``package.module:callable`` that returns an ``nn.Module``; it runs user code.

    ``forward`` holds constant keyword arguments of the module's ``forward``.
    """

    factory: str
    args: Mapping[str, Any] = field(default_factory=dict)
    forward: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedModel:
    """A model that exists as files: nothing is built or exported, so torch is not needed.

    Subclasses: :class:`FileModel` and :class:`harness.spec.bundle.entries.PackedModel`.
    """

    path: str

    @property
    def in_one_line(self) -> str:
        """What a report calls the model."""
        return self.path


@dataclass(frozen=True, slots=True)
class FileModel(RecordedModel):
    """The model file at ``path``, with folders of recorded inputs and outputs.

    ``stamp`` changes when one of the files does. ``recorded_with`` is the model file that the data is about, if this
    one is a variant of it; else empty.
    """

    data_sets: tuple[str, ...]
    stamp: str = ""
    recorded_with: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the recording."""
        return Path(self.recorded_with or self.path).parent

    @property
    def format(self) -> ModelFormat:
        """The format of the file, by its name."""
        return "ort" if self.path.endswith(".ort") else "onnx"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model file of the user's: the reference of a case, or a file under test that is compared with it.

    ``stamp`` changes when the file or its external data do.
    """

    path: str
    format: ModelFormat
    stamp: str = ""

    @property
    def needs_torch(self) -> bool:
        """True if only torch can load it."""
        return self.format not in {"onnx", "ort"}

    @property
    def runs_code(self) -> bool:
        """True if loading it runs code of the file: a program of TorchScript, or machine code."""
        return self.format in {"torchscript", "aoti"}


Model = LayerModel | SequentialModel | GraphModel | FactoryModel | StoredModel | RecordedModel


@dataclass(frozen=True, slots=True)
class WeightedModel:
    """A model with its weights: the case's own, or the one that ``equals`` and ``differs_from`` compare it with.

    ``weights_file`` names the file that all weights come from: it has to hold every one of them and no others. It is
    empty if the spec names single weights.
    """

    model: Model
    weights: Mapping[str, TensorSpec] = field(default_factory=dict)
    weights_file: str = ""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must hold beyond agreement with eager torch.

    ``outputs``: tensors that the outputs must equal within tolerance. ``shape``: one shape per output. ``formula``: an
    expression for the first output, or a condition on it (a boolean result must be true everywhere). ``gradient``: by
    input label or parameter name, an expression for the gradient of the sum of the first output. ``raises``: text in
    eager torch's error.
    """

    outputs: tuple[TensorSpec, ...] | None = None
    shape: tuple[tuple[int, ...], ...] | None = None
    range: tuple[float, float] | None = None
    formula: str | None = None
    gradient: Mapping[str, str] = field(default_factory=dict)
    gradient_range: tuple[float, float] | None = None
    equals: WeightedModel | None = None
    differs_from: WeightedModel | None = None
    raises: str | None = None


@dataclass(frozen=True, slots=True)
class DataSettings:
    """How the samples of a case are judged as a whole: they are run one by one and none is kept.

    ``labels`` is a file with one for each sample, or ``label_key`` names an array in the file of each. ``metric`` is
    the user's callable. ``allowed_drop`` is how much worse than the reference's the metric may be, or the accuracy
    without one; None if it is only reported.
    """

    labels: FileSource | None = None
    label_key: str | None = None
    metric: str | None = None
    better: Literal["higher", "lower"] = "higher"
    allowed_drop: float | None = None

    @property
    def has_labels(self) -> bool:
        """True if each sample has a label."""
        return self.labels is not None or self.label_key is not None


@dataclass(frozen=True)
class Case:
    """One fully resolved configuration.

    ``dynamic`` maps an input's label to its dynamic axes and their names. ``also`` holds further shapes by label at
    which the same artifact is verified. ``bench`` holds further shapes by label at which latency is measured; a case at
    one of them has the id of the original case as ``bench_of``. ``seed`` seeds the weights and stochastic layers.
    ``draws`` is the number of sets of random inputs at each set of shapes. ``samples`` are further sets of inputs from
    files, each with the name of its file; with ``data``, they are judged as a whole. ``structure`` says how
    ``forward`` takes the inputs, if some are nested or null (:mod:`harness.spec.language.inputs.structure`); ``inputs``
    are the tensors in it.
    ``files`` are the files under test by name, and ``targets`` theirs in a run that names none; if empty, the first one
    of each. ``count`` is how often a model calls the layer that the case is about.
    ``loop`` has the input that each output feeds at the next of ``steps``
    calls, with outputs as :attr:`harness.model.answer.Reference.paths` names them.
    """

    id: str
    about: str
    model: WeightedModel
    inputs: tuple[TensorSpec, ...]
    where: Location
    mode: Mode = "eval"
    dtype: str = "float32"
    expect: Expectation = field(default_factory=Expectation)
    tolerance: CaseTolerance = field(default_factory=CaseTolerance)
    seed: int = 0
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    also: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    bench: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    bench_of: str | None = None
    draws: int = 2
    samples: tuple[tuple[str, tuple[TensorSpec, ...]], ...] = ()
    data: DataSettings | None = None
    files: Mapping[str, StoredModel] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    structure: Mapping[str, Any] | None = None
    count: int | None = None
    loop: Mapping[str, str] = field(default_factory=dict)
    steps: int = 1

    @property
    def arguments(self) -> list[str]:
        """The labels of the arguments of ``forward``, in order."""
        return list(self.trees)

    @property
    def trees(self) -> Mapping[str, Any]:
        """The structure of the arguments, that of tensors by order included."""
        return {spec.label: spec.label for spec in self.inputs} if self.structure is None else self.structure

    @property
    def is_recorded(self) -> bool:
        """True if nothing is built or exported: such a case is verified without torch."""
        model = self.model.model
        if isinstance(model, StoredModel):
            return not any(each.needs_torch for each in (model, *self.files.values()))
        return isinstance(model, RecordedModel)

    @cached_property
    def runs_user_code(self) -> bool:
        """True if code of the user is involved, which may change any state of its process."""
        if self.data is not None and self.data.metric is not None:
            return True
        weighted = (self.model, self.expect.equals, self.expect.differs_from)
        models = [*(each.model for each in weighted if each is not None), *self.files.values()]
        return any(
            isinstance(each, FactoryModel) or (isinstance(each, StoredModel) and each.runs_code) for each in models
        )


def seed_from_name(name: str) -> int:
    """63 bits of the name's BLAKE2b hash: a seed that torch and NumPy both accept."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
