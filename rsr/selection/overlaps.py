"""Candidates for a training set that share text with an evaluation set, and are therefore not selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsr.data import contamination
from rsr.data.discovery import Source

Key = tuple[str, str, str]  # teacher, generation and id of a trajectory


@dataclass(frozen=True)
class Overlap:
    """What candidates share with an evaluation set (see `rsr.data.contamination`).

    Attributes:
        problems, too_short: of the evaluation set; those too short were not compared.
        hits: "dataset, trajectory" -> the problems that it overlaps with; no such candidate is selected.
    """

    evaluation: str
    problems: int
    too_short: int
    hits: Mapping[str, Sequence[str]]


def find(sources: Sequence[Source], against: Sequence[str | Path]) -> tuple[tuple[Overlap, ...], dict[Key, str]]:
    """The overlap with each evaluation set, and the first set that each overlapping trajectory shares text with.

    Raises:
        InputError: a file is no evaluation set.
    """
    overlaps: list[Overlap] = []
    first: dict[Key, str] = {}
    for evaluation in [contamination.read(Path(file)) for file in against]:
        hits: dict[str, Sequence[str]] = {}
        for dataset in (source.dataset for source in sources):
            for t in dataset.trajectories:
                texts = [m.text for m in t.messages if m.role != "system"]
                if problems := contamination.overlapping(texts, evaluation):
                    hits[f"{dataset.name}, {t.id}"] = sorted(problems)
                    first.setdefault((dataset.teacher, dataset.generation, t.id), evaluation.name)
        overlaps.append(Overlap(evaluation.name, evaluation.problems, evaluation.too_short, hits))
    return tuple(overlaps), first
