"""What a mismatch experiment says: conclusions, tables and figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from experiments.analysis.transfer import DTYPE, STUDENT, Crossed
from experiments.app import result_folder
from experiments.app.conclusions import Conclusion
from rsr.stats.correlation import correlate
from rsr.stats.effect import Effect
from rsr.views.plots import Panel, heatmap, scatter

DRAWN = ("rsr", "avg_surprisal", "g_norm")


def conclusions(crossed: Sequence[Crossed], effects: Mapping[str, Mapping[str, Effect]]) -> list[Conclusion]:
    """Of RSR and mean surprisal: what scores of another student, or in another dtype, lose; and how fast RSR's fall."""
    conclusions = []
    for crossing in crossed:
        n, title = crossing.scores.shape[1], crossing.metric.title
        basis = f"{n} teachers, {len(crossing.own)} students, bootstrap over teachers"
        between = correlate(crossing.accuracy[:, None], crossing.accuracy[None], "spearman")[
            np.triu_indices(len(crossing.own), 1)
        ]
        for kind in (STUDENT, DTYPE):
            effect = effects[crossing.metric.name].get(kind)
            if effect is None or crossing.metric.name not in DRAWN[:2]:
                continue
            away = crossing.matrix[crossing.away(kind)].mean()
            answer = (
                f"{title} orders teachers with {away + effect.value:+.2f} under its own setting and with {away:+.2f} "
                f"under {kind}: {_verdict(effect)}"
                + (f" (the students' accuracies agree with {between.mean():+.2f})." if kind == STUDENT else ".")
            )
            question = f"Does {title} lose by being computed under {kind}?"
            conclusions.append(Conclusion(question, answer, replace(effect, basis=basis), "Spearman"))
        if crossing.metric.name == "rsr" and (effect := effects["rsr"].get("fall")):
            answer = (
                "Per unit of 1 - rank correlation of scores "
                f"(here {crossing.distance[crossing.away(STUDENT)].mean():.2f} between students) "
                f"the coefficient changes by {-effect.value:+.2f}: {_verdict(effect)}."
            )
            question = "How fast does RSR's correlation fall with the distance between students?"
            unit = "Spearman lost per unit of distance"
            conclusions.append(Conclusion(question, answer, replace(effect, basis=basis), unit))
    return conclusions


def _verdict(effect: Effect) -> str:
    if not effect.excludes_zero:
        return "no significant loss"
    return "a loss" if effect.value > 0 else "a gain, if anything"


def report(crossed: Sequence[Crossed], effects: Mapping[str, Mapping[str, Effect]]) -> list[str]:
    kinds = [kind for kind in (STUDENT, DTYPE) if crossed[0].away(kind).any()]
    header = [
        "metric",
        "own",
        *(f"{kind}; loss [95 %]" for kind in kinds),
        "own is best",
        "loss per unit of distance [95 %]",
    ]
    lines = []
    for crossing in crossed:
        losses, effect = crossing.loss(crossing.matrix), effects[crossing.metric.name]
        own = (crossing.matrix + losses)[0]
        lost = [f"{crossing.matrix[crossing.away(kind)].mean():+.2f}; {effect[kind].text()}" for kind in kinds]
        best = int((losses >= -1e-12).all(axis=0).sum())
        fall = effect["fall"].text() if "fall" in effect else ""
        lines.append([crossing.metric.title, f"{own.mean():+.2f}", *lost, f"{best} of {len(crossing.own)}", fall])
    losing = [crossing.metric.title for crossing in crossed if effects[crossing.metric.name][STUDENT].low > 0]
    return [
        "## Every metric that depends on the student",
        "Spearman with accuracy, signs turned so that larger is better; means over students.",
        result_folder.markdown_table(header, lines),
        f"Of {len(crossed)} metrics {len(losing)} lose under another student by an interval that excludes 0"
        + (f": {', '.join(losing)}" if losing else "")
        + ". The comparisons share teachers and accuracies and are not corrected for their number.",
        *[part for crossing in crossed if crossing.metric.name in DRAWN for part in _matrix(crossing)],
    ]


def _matrix(crossing: Crossed) -> list[str]:
    lines = [
        [
            setting.label,
            *(
                f"{value:+.2f}{' (own)' if own == setting else ''}"
                for own, value in zip(crossing.own, row, strict=True)
            ),
        ]
        for setting, row in zip(crossing.settings, crossing.matrix, strict=True)
    ]
    return [
        f"## {crossing.metric.title}",
        result_folder.markdown_table(["scored under", *(s.student for s in crossing.own)], lines),
    ]


def cells(crossing: Crossed) -> Iterator[dict[str, object]]:
    for (a, b), value in np.ndenumerate(crossing.matrix):
        yield {
            "metric": crossing.metric.name,
            **asdict(crossing.settings[a]),
            "performance_of": crossing.own[b].student,
            "own": crossing.settings[a] == crossing.own[b],
            "spearman": value,
            "distance": crossing.distance[a, b],
        }


def rows(crossing: Crossed, effects: Mapping[str, Mapping[str, Effect]]) -> Iterator[dict[str, object]]:
    for name, effect in effects[crossing.metric.name].items():
        numbers = {"value": effect.value, "low": effect.low, "high": effect.high}
        yield {"metric": crossing.metric.name, "loss_under": name, **numbers, "detectable": effect.minimum_detectable}


def draw(crossed: Sequence[Crossed], folder: Path) -> None:
    """Draw the metrics of `DRAWN`, or all where none of these is among them."""
    by_name = {crossing.metric.name: crossing for crossing in crossed}
    drawn = [by_name[name] for name in DRAWN if name in by_name] or list(crossed)
    heatmap(
        [(crossing.metric.title, crossing.matrix) for crossing in drawn],
        rows=[setting.label for setting in drawn[0].settings],
        columns=[own.student for own in drawn[0].own],
        row_label="scores under",
        column_label="performance of",
        title="Spearman with accuracy, signs turned so that larger is better",
        path=folder / "matrix.png",
        limits=(-1.0, 1.0),
    )
    panels = []
    for crossing in drawn[:1] + drawn[1:][-1:]:
        pairs = [(a, b) for (a, b) in np.argwhere(crossing.away(STUDENT) | crossing.away(DTYPE))]
        panels.append(
            Panel(
                crossing.metric.title,
                "distance: 1 - rank correlation with the own scores",
                "Spearman lost against the own scores",
                [f"{crossing.settings[a].label} for {crossing.own[b].student}" for a, b in pairs],
                [float(crossing.distance[a, b]) for a, b in pairs],
                [float(crossing.loss(crossing.matrix)[a, b]) for a, b in pairs],
            )
        )
    scatter(panels, folder / "fall.png")
