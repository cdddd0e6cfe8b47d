"""Candidates for a training set: what is known of each trajectory besides its score."""

from collections.abc import Mapping, Sequence

import polars as pl

from rsr.data.discovery import Source, field_of
from rsr.data.trajectories import Trajectory, prompt_hash
from rsr.errors import InputError
from rsr.grading.correctness import Correctness
from rsr.selection import duplicates
from rsr.selection.rules import CANDIDATES, Rule


def gather(
    rows: pl.DataFrame,
    sources: Sequence[Source],
    rule: Rule,
    group: str | None,
    by_prompt: bool,
    correctness: Correctness,
    overlaps: Mapping[tuple[str, str, str], str],
) -> tuple[pl.DataFrame, dict[tuple[str, str, str], tuple[Source, Trajectory]]]:
    """One row per trajectory of the sources (columns: `rsr.selection.rules.CANDIDATES`), and where each is.

    Args:
        correctness: says which answers are right; not asked where the rule ignores it.
        overlaps: by teacher, generation and id, the evaluation set that a trajectory shares text with.
    """
    known = {
        (source.dataset.teacher, source.dataset.generation, t.id): (source, t)
        for source in sources
        for t in source.dataset.trajectories
    }
    correct: list[bool | None] = [None] * len(known)
    cluster: Sequence[int | None] = [None] * len(known)
    if rule.correct != "ignore":
        correct = correctness([t for _, t in known.values()])
    if rule.distinct:
        chats = (" ".join(message.text for message in t.messages) for _, t in known.values())
        cluster = duplicates.clusters(chats)
    described = [
        {
            "teacher": teacher,
            "generation": generation,
            "trajectory": identity,
            "problem": prompt_hash(t.messages, t.tools) if by_prompt else t.problem,
            "group": teacher if group is None else field_of(source, t, group),
            "correct": right,
            "content": t.sha256,
            "cluster": alike,
            "overlap": overlaps.get((teacher, generation, identity)),
        }
        for ((teacher, generation, identity), (source, t)), right, alike in zip(
            known.items(), correct, cluster, strict=True
        )
    ]
    of_scores = ("value", "tokens", "truncated")
    schema = {name: kind for name, kind in CANDIDATES.items() if name not in of_scores}
    names = ["teacher", "generation", "trajectory"]
    scored = rows if "truncated" in rows.columns else rows.with_columns(truncated=pl.lit(None, pl.Boolean))
    frame = pl.DataFrame(described, schema=schema).join(
        scored.select(*names, *of_scores), on=names, how="left", maintain_order="left"
    )
    return frame.select(*CANDIDATES), known


def of_teachers(sources: Sequence[Source], teachers: Sequence[str], without: Sequence[str]) -> list[Source]:
    """The sources of some teachers, or of all but some; of all where neither is named.

    Raises:
        InputError: a name is none of a teacher, or no source is left.
    """
    known = list(dict.fromkeys(source.dataset.teacher for source in sources))
    if unknown := [name for name in (*teachers, *without) if name not in known]:
        raise InputError(f"no teacher is called {unknown[0]!r}: there are {', '.join(known)}")
    kept = [
        source
        for source in sources
        if source.dataset.teacher in (teachers or known) and source.dataset.teacher not in without
    ]
    if not kept:
        raise InputError(f"no teacher is left without {', '.join(without)}")
    return kept
