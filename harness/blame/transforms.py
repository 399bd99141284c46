"""Find the transform that changed the result: the first after which the file does not give the expected answer."""

from __future__ import annotations

from collections.abc import Callable

from harness.spec.targets import Target


def transform_to_blame(target: Target, problem_of: Callable[[Target], str | None]) -> tuple[str, ...]:
    """The evidence that a transform of ``target`` changed the result; empty if the file was wrong before them all.

    ``problem_of`` runs the file of a target with fewer transforms, on the same runtime, and says what is wrong with its
    answer; None if nothing is.
    """
    if not target.transforms or problem_of(target.untransformed) is not None:
        return ()
    runtime = target.runtime
    for count, word in enumerate(target.transforms[:-1], start=1):
        problem = problem_of(target.with_first_transforms(count))
        if problem is not None:
            return (f"on {runtime}, the file agrees before +{word}, and not after it: {problem}",)
    return (f"on {runtime}, the file agrees before +{target.transforms[-1]}, and not after it",)
