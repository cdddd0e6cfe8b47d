"""The first look at a new student: does it find teachers of its own family more familiar than distant ones?

    python experiments/sanity.py student=all
    python experiments/sanity.py student=smollm2 teachers=FOLDER

A student is expected to be less surprised by its own family. Where it is not, look at the chat template and the mask
before anything else. Published scores for the paper's students, measured ones (see score.py) for any other.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import polars as pl

from experiments.app import result_folder
from experiments.app.command_configs import SanityConfig
from experiments.app.entry import command_line, entry
from experiments.app.shared_configs import reads_published
from experiments.paper import published
from experiments.stages.scoring import score
from rsr.metrics import METRICS

SHOWN = ("avg_surprisal", "avg_rank_clipped", "rsr")


@entry("sanity", SanityConfig, open_groups=True)
def main(config: SanityConfig) -> None:
    if reads_published(config.student.source, config.teachers):
        printed = published.read(config.paths.published)
        scores, students = printed.scores(), printed.students(config.student.name)
    else:
        measured = score(config)
        if measured is None:
            return
        scores, students = measured.datasets, [config.student.name]
    table = pl.concat([by_family(scores, student, config.families) for student in students])
    folder = result_folder.folder_of(config, "sanity")
    result_folder.publish(folder, _markdown(table), {"table.csv": table}, families=config.families)


def family(name: str, families: Mapping[str, Sequence[str]]) -> str:
    """The first family that a pattern of the name fits; the name itself where none does."""
    for known, patterns in families.items():
        if any(fnmatch(name.lower(), pattern.lower()) for pattern in patterns):
            return known
    return name


def by_family(scores: pl.DataFrame, student: str, families: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Mean scores of teachers of the student's family and of the others, per metric; null where there are none."""
    own = family(student, families)
    teachers = (
        scores.filter((pl.col("student") == student) & (pl.col("preset") == "") & pl.col("metric").is_in(SHOWN))
        .group_by("teacher", "metric")
        .agg(pl.col("value").mean())
        .with_columns(
            same=pl.col("teacher").map_elements(lambda t: family(t, families) == own, return_dtype=pl.Boolean)
        )
    )
    same, other = pl.col("value").filter(pl.col("same")), pl.col("value").filter(~pl.col("same"))
    return (
        teachers.group_by("metric")
        .agg(same_n=same.len(), same=same.mean(), other_n=other.len(), other=other.mean())
        .with_columns(difference=pl.col("same") - pl.col("other"))
        .sort(pl.col("metric").replace_strict({name: i for i, name in enumerate(SHOWN)}))
        .select(pl.lit(student).alias("student"), pl.lit(own).alias("family"), pl.all())
    )


def _rows(table: pl.DataFrame) -> list[list[str]]:
    return [
        [row["student"], row["family"], METRICS[row["metric"]].title]
        + [f"{row[k]:.3f} ({row[k + '_n']})" if row[k] is not None else "none" for k in ("same", "other")]
        + [f"{row['difference']:+.3f}" if row["difference"] is not None else ""]
        for row in table.iter_rows(named=True)
    ]


HEADER = [
    "student",
    "family",
    "metric (lower: more familiar)",
    "own family (teachers)",
    "others (teachers)",
    "difference",
]


def _comparisons(table: pl.DataFrame) -> list[str]:
    surprisal = table.filter(metric="avg_surprisal")
    return [
        f"{row['student']}: no teacher of the family {row['family']}: nothing to compare"
        if row["difference"] is None
        else f"{row['student']} is {'less' if row['difference'] < 0 else 'MORE'} surprised by its own family"
        + ("" if row["difference"] < 0 else ": look at the chat template and the response mask")
        for row in surprisal.iter_rows(named=True)
    ]


def _markdown(table: pl.DataFrame) -> str:
    parts = [
        "# Scores of teachers of the student's own family beside those of others",
        result_folder.markdown_table(HEADER, _rows(table)),
        result_folder.markdown_list(_comparisons(table)),
        f"Made by `{command_line()}`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
