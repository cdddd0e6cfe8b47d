"""What was learned from the training sets of every selection method and setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from experiments.analysis.released import Agreement
from experiments.app.conclusions import Conclusion, contrast
from experiments.stages.random_selection import KEYS, RANDOM
from experiments.stages.training_sets import LARK, NONE, Selection
from experiments.study.trained import TrainedStudents
from rsr.data.trajectories import Dataset
from rsr.metrics import by_name
from rsr.metrics.score_tables import Scores, of_metric
from rsr.stats.effect import Effect

COMPARED = {  # what arms may differ in: the column of `by_method`, and how it is written
    "trajectories": ("trajectories", ",.0f"),
    "problems that they answer": ("problems", ",.0f"),
    "response tokens": ("response_tokens", ",.0f"),
    "mean length in tokens": ("tokens", ".1f"),
    "right answers in percent": ("verified_accuracy", ".1f"),
}


@dataclass(frozen=True)
class SelectionResult:
    """Selections and what was learned from them.

    Attributes:
        best: the dataset of one teacher that its student did best on, of the first generations; known only afterwards.
        answers: see `TrainedStudents.answers`.
        left_out: reason by method that cannot be had here.
        released: how far RSR chose as the released selection does, or why that is not known.
    """

    selections: Sequence[Selection]
    best: Dataset
    answers: pl.DataFrame
    scores: Scores
    verified: pl.DataFrame
    left_out: Mapping[str, str]
    released: Agreement | str

    def of(self, dataset: Dataset) -> pl.DataFrame:
        """Answers of the learners of a dataset."""
        return self.answers.filter(teacher=dataset.teacher, generation=dataset.generation)

    def whole_label(self, label: str) -> str | None:
        """The label of what the selections of a label are parts of; None where they are whole."""
        return next((s.whole.label for s in self.selections if s.label == label and s.whole), None)

    def method(self, label: str, method: str) -> pl.DataFrame:
        """Answers of the learners of a selection."""
        return self.answers.filter(teacher=method, generation=label)


def best_of(learned: TrainedStudents, data: Sequence[Dataset]) -> Dataset:
    """The dataset with the best accuracy."""
    accuracy = {(r["teacher"], r["generation"]): r["accuracy"] for r in learned.performance().iter_rows(named=True)}
    return max(data, key=lambda dataset: accuracy.get((dataset.teacher, dataset.generation), -1.0))


def accuracy(answers: pl.DataFrame) -> Effect:
    """Accuracy in percent with its interval, cut at 0 and 100: the contrast with a student that answers nothing."""
    effect = contrast(answers, answers.with_columns(correct=pl.lit(0.0)))
    return replace(effect, low=max(effect.low, 0.0), high=min(effect.high, 100.0))


def by_method(result: SelectionResult) -> pl.DataFrame:
    """One row per setting and method, and the best teacher: accuracy, and its differences from chance and that teacher."""
    rows = []
    best = result.of(result.best)
    for selection in result.selections:
        own = result.method(selection.label, selection.method)
        chance = result.method(selection.label, RANDOM)
        if own.is_empty():  # its cells failed
            continue
        effects: dict[str, Effect | None] = {
            "accuracy": accuracy(own),
            "less_random": contrast(own, chance) if len(chance) and selection.method != RANDOM else None,
            "less_best_teacher": contrast(own, best) if len(best) else None,
        }
        rows.append(
            {"setting": selection.label, "method": selection.method} | _columns(effects) | _made_of(selection, result)
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _columns(contrasts: Mapping[str, Effect | None]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, effect in contrasts.items():
        columns[name] = effect and effect.value
        columns[f"{name}_low"] = effect and effect.low
        columns[f"{name}_high"] = effect and effect.high
        columns[f"{name}_detectable"] = effect and effect.minimum_detectable
    return columns


def _made_of(selection: Selection, result: SelectionResult) -> dict[str, Any]:
    """RSR of a training set (Eq. 9), its size, what it is of, verified accuracy, and how often chance had to decide."""
    rows = selection.chosen.select(KEYS)
    rsr = rows.join(of_metric(result.scores.trajectories, "rsr"), on=KEYS, how="left").drop_nulls("value")
    graded = rows.join(result.verified, on=KEYS, how="inner")
    right = graded["correct"].drop_nulls().to_numpy()  # without those that have no verdict
    return {
        "trajectories": len(rows),
        "kept": 100 * len(rows) / len(selection.whole.chosen) if selection.whole else 100.0,
        "problems": selection.chosen["problem"].n_unique(),
        "response_tokens": selection.chosen["tokens"].sum(),
        "rsr": float(rsr["numerator"].to_numpy().sum() / rsr["denominator"].to_numpy().sum()),
        "tokens": rsr["tokens"].mean(),
        "verified_accuracy": 100 * float(right.mean()) if len(right) else None,
        "ties": selection.ties,
        "winner": selection.chosen["teacher"].mode().sort()[0],
    }


def winners(result: SelectionResult) -> pl.DataFrame:
    """setting, method, teacher, share: of the problems (of the trajectories, where all are taken) that a teacher won."""
    return pl.concat(
        selection.chosen.group_by("teacher")
        .agg(share=100 * pl.len() / len(selection.chosen))
        .sort("share", "teacher", descending=[True, False])
        .select(pl.lit(selection.label).alias("setting"), pl.lit(selection.method).alias("method"), "teacher", "share")
        for selection in result.selections
    )


def what_differs(table: pl.DataFrame, won: pl.DataFrame) -> str:
    """What arms that were cut to one size have in common, and what they still differ in.

    Args:
        table, won: the rows of one setting of `by_method` and of `winners`.
    """
    equal, different = list[str](), list[str]()
    for name, (column, form) in COMPARED.items():
        values = table[column].drop_nulls().to_numpy()
        if len(values):
            low, high = values.min(), values.max()
            texts = dict.fromkeys([f"{low:{form}}", f"{high:{form}}"])
            (equal if high - low <= 0.01 * high else different).append(f"{name} ({' to '.join(texts)})")
    shares = won.pivot("method", index="teacher", values="share").fill_null(0.0).drop("teacher").to_numpy().T
    apart = max(abs(one - other).sum() / 2 for one in shares for other in shares)
    (equal if apart <= 1 else different).append(f"teachers (of at most {apart:.1f} % of the trajectories of two arms)")
    kept = table["kept"].to_numpy()
    return (
        f"Each arm keeps {kept.min():.1f} to {kept.max():.1f} % of its trajectories. "
        f"Equal within 1 %: {', '.join(equal) or 'nothing'}. Different: {', '.join(different) or 'nothing'}."
    )


def conclusions(result: SelectionResult) -> list[Conclusion]:
    """RSR against chance and against the best single teacher in every setting, and the best other method against RSR; where arms
    were cut to one size, what that has changed of the first.
    """
    made = []
    for label in dict.fromkeys(selection.label for selection in result.selections):
        methods = [s.method for s in result.selections if s.label == label and len(result.method(label, s.method))]
        if "rsr" not in methods:
            continue
        rsr = result.method(label, "rsr")
        first = next(s for s in result.selections if s.label == label and s.method == "rsr").chosen["teacher"]
        most, share = first.mode().sort()[0], 100 * (first == first.mode().sort()[0]).sum() / len(first)
        taken = f"it takes {share:.0f} % of its trajectories from {most}"
        if RANDOM in methods:
            difference = contrast(rsr, result.method(label, RANDOM))
            question = f"{label}: does selecting by RSR beat selecting at random?"
            made.append(Conclusion(question, f"{difference.verdict}; {taken}.", difference))
            made += _changed_by_matching(result, label)
        if len(single := result.of(result.best)):
            difference = contrast(rsr, single)
            question = f"{label}: does selecting by RSR beat the best single teacher, chosen by an oracle?"
            whole = ", and its set stays whole" if result.whole_label(label) else ""
            answer = f"{difference.verdict}; that teacher is {result.best.teacher}{whole}."
            made.append(Conclusion(question, answer, difference))
        others = [m for m in methods if m not in ("rsr", RANDOM, NONE)]
        if others:
            best = max(others, key=lambda m: accuracy(result.method(label, m)).value)
            difference = contrast(rsr, result.method(label, best))
            question = f"{label}: does selecting by RSR beat the best other score, chosen by an oracle?"
            made.append(Conclusion(question, f"{difference.verdict}; that is {title(best).lower()}.", difference))
    return made


def _changed_by_matching(result: SelectionResult, label: str) -> list[Conclusion]:
    """RSR's lead over chance among arms of one size, less its lead before; nothing where these are not known."""
    whole = result.whole_label(label)
    leads = [_lead(result, one) for one in (label, whole) if one]
    if len(leads) < 2 or any(lead.is_empty() for lead in leads):
        return []
    difference = contrast(*leads)
    question = f"{label}: is RSR's lead over random selection larger than without equal sizes ({whole})?"
    return [Conclusion(question, f"{difference.verdict}.", difference)]


def _lead(result: SelectionResult, label: str) -> pl.DataFrame:
    """Answers of RSR's learners less those of chance, seed by seed."""
    key = ["seed", "benchmark", "problem"]
    chance = result.method(label, RANDOM).select(*key, chance="correct")
    both = result.method(label, "rsr").join(chance, on=key, how="inner")
    return both.with_columns(correct=pl.col("correct") - pl.col("chance"))


def title(method: str) -> str:
    named = {RANDOM: "At random", NONE: "None: all candidates", LARK: "LARK, weighed"}
    return named.get(method) or by_name(method).title
