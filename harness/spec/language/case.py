"""Seeds from names, so that a case draws the same numbers whatever stands beside it.

A case: one fully resolved configuration. Plain data; every later stage starts from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import Location
from harness.spec.language.tolerances import CaseTolerance

if TYPE_CHECKING:
    from harness.spec.bundle.entries import CaseEntry


def seed_of(text: str) -> int:
    """63 bits of BLAKE2b: a seed that torch and NumPy both take."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


Layout = Literal["contiguous", "channels_last", "strided"]
Mode = Literal["eval", "train"]
FillKind = Literal["normal", "uniform", "integers", "arange", "ones", "zeros", "full", "choice"]


@dataclass(frozen=True, slots=True)
class Fill:
    """How a tensor without literal values is filled.

    ``parameters`` are ``(low, high)`` for ``uniform`` and ``integers`` (both ends reachable for
    ``integers``), ``(value,)`` for ``full``, the values for ``choice``, empty for the others.
    """

    kind: FillKind
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: its literal ``values`` (nested tuples), or a ``fill`` with a seed of its own.

    ``takes_shape`` is True for a weight that is filled in the shape of the parameter it becomes;
    ``shape`` is then ``()`` and says nothing.
    """

    label: str
    dtype: str
    shape: tuple[int, ...]
    values: Any | None = None
    fill: Fill | None = None
    layout: Layout = "contiguous"
    seed: int = 0
    takes_shape: bool = False


@dataclass(frozen=True, slots=True)
class LayerModel:
    """One layer by its ``torch.nn`` class name; ``forward`` holds constant keyword arguments of ``forward``."""

    layer: str
    args: Mapping[str, Any] = field(default_factory=dict)
    forward: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SequentialModel:
    """Layers one after another: a ``torch.nn.Sequential``."""

    steps: tuple[LayerModel, ...]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One layer of a graph, with the names of the values that it reads and writes."""

    layer: LayerModel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GraphModel:
    """Layers wired by name; the case's input labels are the first names."""

    nodes: tuple[GraphNode, ...]
    returns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactoryModel:
    """A user's own ``package.module:callable`` that returns an ``nn.Module``; it runs code."""

    factory: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileModel:
    """A model file that exists already, with folders of recorded inputs and outputs; nothing is built or exported.

    ``stamp`` changes when one of the files does.
    """

    path: str
    data_sets: tuple[str, ...]
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A case of a bundle: exported files with all that they are held against; nothing is built or exported.

    ``folder`` is the bundle's, ``seal`` changes when anything in it does, ``entry`` is the case's part of its manifest.
    """

    folder: str
    seal: str
    entry: CaseEntry = field(repr=False)


Model = LayerModel | SequentialModel | GraphModel | FactoryModel | FileModel | PackedModel


@dataclass(frozen=True, slots=True)
class WeightedModel:
    """A model with its weights: what a case is made of, and what ``equals`` compares it with."""

    model: Model
    weights: Mapping[str, TensorSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the spec says must hold, beyond agreement with eager torch.

    ``outputs``: tensors the outputs must equal within tolerance. ``shape``: a shape per output.
    ``formula``: an expression for the first output, or a condition on it (a boolean result must
    be true everywhere). ``gradient``: by input label or parameter name, an expression for the
    gradient of the sum of the first output. ``raises``: text in eager torch's error.
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
class Case:
    """One fully resolved configuration.

    ``dynamic`` maps an input's label to its open axes and their names; ``also`` holds further
    shapes by label at which the same artifact is verified. ``bench`` holds further shapes by
    label at which latency is measured; a case at one of them is ``bench_of`` the id that it has
    at its own shapes. ``seed`` seeds the weights and stochastic layers.
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

    @property
    def is_recorded(self) -> bool:
        """True where all is recorded and nothing is built or exported: such a case is verified without torch."""
        return isinstance(self.model.model, FileModel | PackedModel)

    @property
    def runs_own_code(self) -> bool:
        """True where a factory of the user's takes part: its code may leave anything behind in its process."""
        models = (self.model, self.expect.equals, self.expect.differs_from)
        return any(isinstance(each.model, FactoryModel) for each in models if each is not None)
