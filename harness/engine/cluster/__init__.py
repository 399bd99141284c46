"""The same checks on the machines of a Ray cluster: what goes where, what travels, and what a machine does with it."""

from harness.engine.cluster.demands import Cluster, Demand
from harness.engine.cluster.engine import ClusterEngine

__all__ = ["Cluster", "ClusterEngine", "Demand"]
