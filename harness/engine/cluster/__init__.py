"""The same checks on the machines of a Ray cluster: what goes where, what travels, and what a machine does with it."""

from harness.engine.cluster.engine import Cluster, ClusterEngine, Demand

__all__ = ["Cluster", "ClusterEngine", "Demand"]
