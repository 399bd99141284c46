"""``harness init``: write a first spec for a module, from its signature and from trial calls in eager torch.

:mod:`constructor` finds the layer or factory, :mod:`propose` tries arguments and inputs, and :mod:`write` writes the
spec.
"""

from __future__ import annotations
