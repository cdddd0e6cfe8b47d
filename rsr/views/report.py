"""One page of a ranking and a selection: the decision, what was selected, and examples with their tokens side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import polars as pl
from markupsafe import Markup

from rsr.data.discovery import Source
from rsr.data.trajectories import Trajectory, dataset_name
from rsr.metrics.aggregate import sums_by_problem, token_metrics
from rsr.metrics.score_tables import Scores, caveats, of_metric
from rsr.selection import conclusions, verdicts
from rsr.selection.ranking import Ranking
from rsr.selection.training_set import TrainingSet
from rsr.selection.verdicts import Verdicts
from rsr.stats.rounding import length, number, percent, share, with_interval
from rsr.store.artefacts import of_folder
from rsr.student.chat import ChatRenderer
from rsr.tokens.token_store import STAGE, read_shard
from rsr.views.heatmap import Token, legend, to_html, tokens_of
from rsr.views.html import render

SHOWN = 300  # tokens of a response
ASKED = 1500  # characters of a problem
VERDICTS = {True: "right", False: "wrong", None: "unknown"}


@dataclass(frozen=True)
class Material:
    """What a page is made of.

    Attributes:
        chosen: with the candidates that were left out.
        renderer: of the student's chats, to tell tokens apart.
    """

    scores: Scores
    sources: Sequence[Source]
    ranking: Ranking
    chosen: TrainingSet
    renderer: ChatRenderer

    @property
    def candidates(self) -> pl.DataFrame:
        """Selected or not, with the name of their dataset."""
        choice = self.chosen.choice
        both = pl.concat(
            [choice.chosen.with_columns(selected=True), choice.left_out.drop("reason").with_columns(selected=False)]
        )
        name = pl.struct("teacher", "generation").map_elements(lambda row: dataset_name(**row), return_dtype=pl.String)
        return both.with_columns(dataset=name)

    @cached_property
    def verdicts(self) -> dict[str, Verdicts]:
        """On the candidates of each dataset."""
        by_dataset = self.candidates.group_by("dataset", maintain_order=True)
        return {str(name): verdicts.count(rows["correct"]) for (name,), rows in by_dataset}


def body(material: Material) -> Markup:
    """The body of the page."""
    ranking, chosen = material.ranking, material.chosen
    ordered = len(ranking.places) > 1
    covered, problems = chosen.problems
    report = {
        "student": material.scores.trajectories["student"][0],
        "title": conclusions.title(ranking),
        "basis": conclusions.basis(ranking),
        "decision": conclusions.decision(ranking, material.verdicts) if ordered else "",
        "rightness": _rightness(material),
        "reasons": conclusions.reasons(ranking) if ordered else [],
        "places": _places(material),
        "caveats": caveats(material.scores),
        "ranges": _ranges(ranking),
        "selected": f"{len(chosen.trajectories)} trajectories, of {covered} of {problems} problems",
        "composition": _composition(chosen),
        "left_out": [f"{count} left out: {reason}" for reason, count in chosen.reasons.items()],
        "warnings": list(chosen.warnings),
        "legend": legend(),
        "examples": _examples(material),
    }
    return render("rsr.views", "report.jinja", report=report)


def _places(material: Material) -> list[dict[str, Any]]:
    ranking, candidates = material.ranking, material.candidates
    rows = of_metric(material.scores.trajectories, ranking.metric, ranking.preset)
    keys = ["teacher", "generation", "trajectory"]
    right = rows.join(candidates.filter("correct").select(keys), on=keys, how="semi")
    found = []
    for i, place in enumerate(ranking.places):
        counted = material.verdicts[place.dataset]
        found.append(
            {
                "dataset": place.dataset,
                "value": with_interval(place.value, place.low, place.high),
                "best": percent(place.best),
                "beats": percent(ranking.wins[i][i + 1]) if i + 1 < len(ranking.places) else "",
                "among_right": _value(right.filter(dataset=place.dataset)),
                **asdict(counted),
                "length": length(place.length),
                "repetition": "not known" if place.repetition is None else share(place.repetition),
            }
        )
    return found


def _value(rows: pl.DataFrame) -> str:
    """The score of trajectories together: a ratio of sums where the metric is a ratio, else a mean."""
    valued = rows.drop_nulls("value")
    if valued.is_empty():
        return ""
    sums = sums_by_problem(valued, {problem: i for i, problem in enumerate(valued["problem"].unique())}).sum(axis=0)
    return number(float(sums[0] / sums[1]))


def _rightness(material: Material) -> str:
    if material.chosen.rule.correct == "ignore":
        return "whether answers are right was not looked at"
    return conclusions.rightness(material.verdicts)


def _ranges(ranking: Ranking) -> dict[str, Any]:
    """Where the intervals lie between the ends of all of them, in per cent."""
    ends = [end for place in ranking.places for end in (place.low, place.high, place.value) if isfinite(end)] or [0.0]
    lowest, highest = min(ends), max(ends)

    def at(value: float) -> float:
        return round(100 * (value - lowest) / ((highest - lowest) or 1), 2)

    return {
        "lowest": number(lowest),
        "highest": number(highest),
        "better": f"{ranking.direction} is better",
        "places": [
            {"dataset": p.dataset, "low": at(p.low), "width": round(at(p.high) - at(p.low), 2), "value": at(p.value)}
            for p in ranking.places
        ],
    }


def _composition(chosen: TrainingSet) -> list[dict[str, Any]]:
    return [
        {
            "teacher": row["teacher"],
            "selected": row["selected"],
            "share": share(row["share"]),
            "width": round(6 * row["share"], 2),
            "score": number(row["mean_score"]),
            "right": row["correct"],
            "wrong": row["wrong"],
            "unknown": row["unknown"],
            "tokens": "not known" if row["tokens"] is None else f"{row['tokens']:,}",
        }
        for row in chosen.composition.iter_rows(named=True)
    ]


# --- examples --------------------------------------------------------------------------------------------------------


def _examples(material: Material) -> list[dict[str, Any]]:
    """Problems of several answers: those whose best and worst differ most, middling and least."""
    known = {
        (source.dataset.teacher, source.dataset.generation, t.id): t
        for source in material.sources
        for t in source.dataset.trajectories
    }
    pairs = []
    for _, rows in material.candidates.drop_nulls("value").sort("value").group_by("problem", maintain_order=True):
        selected, left_out = rows.filter("selected"), rows.filter(~pl.col("selected"))
        if len(selected) and len(left_out):
            other = left_out.row(-1 if material.ranking.direction == "lower" else 0, named=True)
            one = selected.row(0 if material.ranking.direction == "lower" else -1, named=True)
            pairs.append((abs(one["value"] - other["value"]), one["problem"], one, other))
    pairs.sort(key=lambda pair: (-pair[0], pair[1]))
    shown = [pairs[i] for i in sorted({0, len(pairs) // 2, len(pairs) - 1})] if pairs else []
    return [
        {
            "problem": problem,
            "asked": _asked(known[_key(one)]),
            "sides": [
                _side(material, "Selected", one, known[_key(one)]),
                _side(material, "Left out", other, known[_key(other)]),
            ],
        }
        for _, problem, one, other in shown
    ]


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["teacher"], row["generation"], row["trajectory"]


def _asked(trajectory: Trajectory) -> str:
    asked = "\n".join(m.content for m in trajectory.messages if m.role == "user")
    return asked if len(asked) <= ASKED else f"{asked[:ASKED]} ... (the first {ASKED:,} of {len(asked):,} characters)"


def _side(material: Material, title: str, row: Mapping[str, Any], trajectory: Trajectory) -> dict[str, Any]:
    tokens = _tokens(material, row, trajectory)
    return {
        "title": title,
        "dataset": row["dataset"],
        "verdict": VERDICTS[row["correct"]],
        "score": number(row["value"]),
        "length": len(tokens),
        "tokens": to_html(tokens[:SHOWN]),
        "shown": min(SHOWN, len(tokens)),
        "of": len(tokens),
    }


def _tokens(material: Material, row: Mapping[str, Any], trajectory: Trajectory) -> list[Token]:
    """The response tokens as they were scored: from the token store, so that no model is loaded."""
    facts = material.scores.artefact.facts
    of_tokens = pl.col("metric").is_in([metric.name for metric in token_metrics()])
    rows = material.scores.trajectories.filter(
        of_tokens, teacher=row["teacher"], generation=row["generation"], trajectory=row["trajectory"]
    )
    store = material.scores.artefact.path.parent.parent / STAGE / rows["artefact"][0]
    chats = material.renderer.chats(trajectory.messages, facts["scoring"]["max_length"], trajectory.tool_schemas)
    artefact = of_folder(store)
    for index in range(artefact.facts["shards"]):
        shard = read_shard(artefact, index)
        if row["trajectory"] in shard.ids:
            at = list(shard.ids).index(row["trajectory"])
            parts = shard.tokens.part(at, at + 1).parted([len(chat.positions()) for chat in chats])
            return [token for i, chat in enumerate(chats) for token in tokens_of(material.renderer, chat, parts, i)]
    raise AssertionError("what is scored lies in its token store")
