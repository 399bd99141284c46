"""What a walk through an exported graph finds and is held against, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Node:
    """One node in words: ``attributes`` as ``name=value``, ``inputs`` with what is known of them."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        attributes = f" [{', '.join(self.attributes)}]" if self.attributes else ""
        return f"{self.op_type}({', '.join(self.inputs)}){attributes} -> {', '.join(self.outputs)}"


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first node whose output is not what it should be.

    ``difference`` says by how much. ``module`` is the torch module that the node was written for, and ``siblings`` are
    the nodes that it was written as, where there are several. ``rounding`` is True where the difference is no more
    than rounding. ``how`` says what the pairing with torch rests on, None where the node is held against float64.
    """

    node: Node
    value: str
    difference: str
    module: str | None
    siblings: tuple[Node, ...] = ()
    rounding: bool = False
    how: str | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the graph first leaves the right path.

    ``kernel`` is the first node that computes something else than its graph says, ``module`` the first that gives
    something else than torch's own module; None where there is none.
    ``nodes`` were looked at; ``matched`` of ``modules`` calls of torch's leaf modules were found in the graph;
    a file that was not exported here has none.
    ``note`` says what could not be looked at.
    """

    nodes: int
    kernel: Divergence | None
    module: Divergence | None
    matched: int
    modules: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a leaf module: its path in the model, its class, and its outputs."""

    path: str
    kind: str
    outputs: tuple[Array, ...]

    def __str__(self) -> str:
        return f"{self.path} ({self.kind})" if self.path else self.kind
