"""Whether a trajectory's final answer is right."""

import logging

from rsr.trajectories import Trajectory

THINK_END = "</think>"


def is_correct(trajectory: Trajectory) -> bool | None:
    """What the record says, or else whether the final answer of the last response equals the reference; None where
    neither is known.

    The final answer stands after the reasoning. math-verify reads and compares it, as a number or an expression; one that
    cannot be read is wrong.
    """
    if trajectory.correct is not None:
        return trajectory.correct
    if trajectory.answer is None:
        return None
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs what it cannot read, which is an answer too
    reference = parse(f"\\boxed{{{trajectory.answer}}}")
    given = parse(trajectory.messages[-1].content.rpartition(THINK_END)[2])
    return bool(verify(reference, given))
