"""Checks on the machines of a Ray cluster."""

from harness.engine.cluster.engine import Cluster, ClusterEngine, Demand

__all__ = ["Cluster", "ClusterEngine", "Demand"]
