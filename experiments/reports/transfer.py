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


def conclusions(crossed: Sequence[Crossed], found: Mapping[str, Mapping[str, Effect]]) -> list[Conclusion]:
    """Of RSR and mean surprisal: what scores of another student, or in another dtype, lose; and how fast RSR's fall."""
    conclusions = []
    for of in crossed:
        n, title = of.scores.shape[1], of.metric.title
        basis = f"{n} teachers, {len(of.own)} students, bootstrap over teachers"
        between = correlate(of.accuracy[:, None], of.accuracy[None], "spearman")[np.triu_indices(len(of.own), 1)]
        for kind in (STUDENT, DTYPE):
            effect = found[of.metric.name].get(kind)
            if effect is None or of.metric.name not in DRAWN[:2]:
                continue
            away = of.matrix[of.away(kind)].mean()
            answer = (
                f"{title} orders teachers with {away + effect.value:+.2f} under its own setting and with {away:+.2f} "
                f"under {kind}: {_verdict(effect)}"
                + (f" (the students' accuracies agree with {between.mean():+.2f})." if kind == STUDENT else ".")
            )
            question = f"Does {title} lose by being computed under {kind}?"
            conclusions.append(Conclusion(question, answer, replace(effect, basis=basis), "Spearman"))
        if of.metric.name == "rsr" and (effect := found["rsr"].get("fall")):
            answer = (
                f"Per unit of 1 - rank correlation of scores (here {of.distance[of.away(STUDENT)].mean():.2f} between students) "
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


def report(crossed: Sequence[Crossed], found: Mapping[str, Mapping[str, Effect]]) -> list[str]:
    kinds = [kind for kind in (STUDENT, DTYPE) if crossed[0].away(kind).any()]
    header = [
        "metric",
        "own",
        *(f"{kind}; loss [95 %]" for kind in kinds),
        "own is best",
        "loss per unit of distance [95 %]",
    ]
    lines = []
    for of in crossed:
        losses, effect = of.loss(of.matrix), found[of.metric.name]
        own = (of.matrix + losses)[0]
        lost = [f"{of.matrix[of.away(kind)].mean():+.2f}; {effect[kind].text()}" for kind in kinds]
        best = int((losses >= -1e-12).all(axis=0).sum())
        fall = effect["fall"].text() if "fall" in effect else ""
        lines.append([of.metric.title, f"{own.mean():+.2f}", *lost, f"{best} of {len(of.own)}", fall])
    losing = [of.metric.title for of in crossed if found[of.metric.name][STUDENT].low > 0]
    return [
        "## Every metric that depends on the student",
        "Spearman with accuracy, signs turned so that larger is better; means over students.",
        result_folder.markdown_table(header, lines),
        f"Of {len(crossed)} metrics {len(losing)} lose under another student by an interval that excludes 0"
        + (f": {', '.join(losing)}" if losing else "")
        + ". The comparisons share teachers and accuracies and are not corrected for their number.",
        *[part for of in crossed if of.metric.name in DRAWN for part in _matrix(of)],
    ]


def _matrix(of: Crossed) -> list[str]:
    lines = [
        [
            setting.label,
            *(f"{value:+.2f}{' (own)' if own == setting else ''}" for own, value in zip(of.own, row, strict=True)),
        ]
        for setting, row in zip(of.settings, of.matrix, strict=True)
    ]
    return [
        f"## {of.metric.title}",
        result_folder.markdown_table(["scored under", *(s.student for s in of.own)], lines),
    ]


def cells(of: Crossed) -> Iterator[dict[str, object]]:
    for (a, b), value in np.ndenumerate(of.matrix):
        yield {
            "metric": of.metric.name,
            **asdict(of.settings[a]),
            "performance_of": of.own[b].student,
            "own": of.settings[a] == of.own[b],
            "spearman": value,
            "distance": of.distance[a, b],
        }


def rows(of: Crossed, found: Mapping[str, Mapping[str, Effect]]) -> Iterator[dict[str, object]]:
    for name, effect in found[of.metric.name].items():
        numbers = {"value": effect.value, "low": effect.low, "high": effect.high}
        yield {"metric": of.metric.name, "loss_under": name, **numbers, "detectable": effect.minimum_detectable}


def draw(crossed: Sequence[Crossed], folder: Path) -> None:
    """Draw the metrics of `DRAWN`, or all where none of these is among them."""
    by_name = {of.metric.name: of for of in crossed}
    drawn = [by_name[name] for name in DRAWN if name in by_name] or list(crossed)
    heatmap(
        [(of.metric.title, of.matrix) for of in drawn],
        rows=[setting.label for setting in drawn[0].settings],
        columns=[own.student for own in drawn[0].own],
        row_label="scores under",
        column_label="performance of",
        title="Spearman with accuracy, signs turned so that larger is better",
        path=folder / "matrix.png",
        limits=(-1.0, 1.0),
    )
    panels = []
    for of in drawn[:1] + drawn[1:][-1:]:
        pairs = [(a, b) for (a, b) in np.argwhere(of.away(STUDENT) | of.away(DTYPE))]
        panels.append(
            Panel(
                of.metric.title,
                "distance: 1 - rank correlation with the own scores",
                "Spearman lost against the own scores",
                [f"{of.settings[a].label} for {of.own[b].student}" for a, b in pairs],
                [float(of.distance[a, b]) for a, b in pairs],
                [float(of.loss(of.matrix)[a, b]) for a, b in pairs],
            )
        )
    scatter(panels, folder / "fall.png")
