"""The parameters of an operator of PyTorch, given to the function that translates it to ONNX.

Before torch 2.11 the dynamo exporter compares a function's parameters with the operator's, by name, and passes over a
function that does not have them: one that takes ``*arguments`` is never called, without a word.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def with_parameters_of(operator: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose signature is now that of ``operator``'s schema. It takes whatever it took before."""
    parameters = [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
            annotation=Any,
        )
        for argument in operator._schema.arguments  # noqa: SLF001 - torch has no public name for it
    ]
    described: Any = function
    described.__signature__ = inspect.Signature(parameters)
    # Without an annotation, which is asked for separately, the exporter warns of each parameter.
    described.__annotations__ = {parameter.name: Any for parameter in parameters}
    return function
