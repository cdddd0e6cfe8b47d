"""Where RSR goes wrong: each mechanism's table, figure and conclusion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.analysis.failure_examples import Examples
from experiments.analysis.failures import BESIDE, TokenMeans, continued, scored
from experiments.app import result_folder
from experiments.app.command_configs import FailuresConfig
from experiments.app.conclusions import Conclusion
from experiments.app.shared_configs import BootstrapConfig
from experiments.paper.simulation import closed_set
from rsr.metrics import by_name
from rsr.stats.effect import Effect, estimate_text, of_draws
from rsr.views.plots import Curve, Estimate, curves, forest

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

OWN, NOISE = "the student's own most likely words", "random digits"


@dataclass(frozen=True)
class Mechanism:
    """What is said of one mechanism; its figure is drawn where it is measured."""

    name: str
    conclusions: Sequence[Conclusion]
    parts: Sequence[str]
    table: pl.DataFrame


def digits(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Digits that cannot be known: however surprising, their rank among ten is at most about ten."""
    rows, by_kind = [], []
    for sample in (shown.known, shown.unknown):
        answers = scored(scorer, sample.answers)
        even = closed_set(10) if sample is shown.unknown else None
        for kind, counted, form in (("all tokens", None, None), ("digits", shown.digits, even)):
            measured = answers.measured(f"{sample.label}: {kind}", counted)
            by_kind.append(measured)
            rows.append(_row(measured, form, config.bootstrap))
    known, _, unknown, _ = by_kind
    change = of_draws(unknown.value - known.value, unknown.draws(config.bootstrap) - known.draws(config.bootstrap))
    answer = (
        f"Solutions ({known.label.partition(':')[0]}) have RSR {known.value:.2f}, with digits that cannot be known "
        f"({unknown.label.partition(':')[0]}) {unknown.value:.2f}: {_verdict(change)}."
    )
    table = pl.DataFrame(rows)
    parts = [
        "## Digits that cannot be known",
        f"A rank among ten digits is at most about ten, however surprising the digit; evenly drawn digits have RSR "
        f"{closed_set(10):.2f}.",
        *(f"{sample.label.capitalize()}:\n\n> {sample.answers[0][1]}" for sample in (shown.known, shown.unknown)),
        _grid(table, ["label", "rank", "surprisal"]),
    ]
    estimates = [Estimate(r["label"], r["rsr"], r["low"], r["high"], r["closed_form"]) for r in rows]
    forest(
        estimates,
        "Digits that cannot be known",
        "RSR (lower is meant to be better), with 95 % intervals",
        folder / "digits.png",
        labels=("measured", "ten equally likely digits"),
        limits=(0.9 * min(r["low"] for r in rows), 1.05 * max(r["high"] for r in rows)),
    )
    return Mechanism(
        "digits",
        [
            _conclusion("Does RSR prefer digits that cannot be known?", answer, change, config),
            *_calibrated("digits that cannot be known", known, unknown, config),
        ],
        parts,
        table,
    )


def fluent(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Fluent text: what the student would write itself has RSR 1 / mean surprisal, and moves a solution there; random digits move
    it to theirs.
    """
    rng, most = Random(f"{config.bootstrap.seed}/appended"), max(config.appended)
    plain = scored(scorer, shown.known.answers)
    solution, lengths = plain.measured("", None), plain.tokens.lengths
    appended = {
        OWN: list(continued(scorer, shown, most)),
        NOISE: [(p, r + shown.joint + shown.noise(most, rng)) for p, r in shown.known.answers],
    }
    rows, conclusions = [], []
    for name, answers in appended.items():
        longer = scored(scorer, answers)
        own = float(longer.tokens.surprisal.sum() - plain.tokens.surprisal.sum()) / (
            len(longer.texts) - len(plain.texts)
        )
        rank, surprisal = (1.0, own) if name == OWN else (5.5, float(np.log(10)))
        for tokens in [0, *config.appended]:
            measured = longer.first(lengths + tokens)
            form = _appended(solution, tokens / (lengths + tokens), rank, surprisal)
            rows.append({"appended": name, "tokens": tokens} | _row(measured, form, config.bootstrap))
        change = of_draws(
            measured.value - solution.value, measured.draws(config.bootstrap) - solution.draws(config.bootstrap)
        )
        answer = (
            f"{most} tokens of {name} (mean surprisal {surprisal:.2f}, so 1 / s = {1 / surprisal:.2f}) after a solution move its "
            f"RSR from {solution.value:.2f} to {measured.value:.2f}: {_verdict(change)}, though the solution is the same."
            if name == OWN
            else f"{most} {name} after a solution move its RSR from {solution.value:.2f} to {measured.value:.2f}: "
            f"{_verdict(change)}, though the solution is the same."
        )
        conclusions.append(_conclusion(f"What do {name} after a solution do to its RSR?", answer, change, config))
        conclusions += _calibrated(f"{name} after a solution", solution, measured, config)
    table = pl.DataFrame(rows).drop("label")
    _draw_appended(table, folder / "fluent.png")
    parts = [
        "## Fluent text",
        "Where every rank is 1, RSR is 1 / mean surprisal: the worse, the surer the student, and it says nothing of whether there "
        "is anything to learn. Closed form: n tokens of mean rank "
        "r and mean surprisal s, and m appended ones of rank 1 and surprisal e, have RSR (n r + m) / (n s + m e); random digits "
        "have rank 5.5 and ln 10 nats.",
        _grid(table, ["appended", "tokens"]),
    ]
    return Mechanism("fluent", conclusions, parts, table)


def _appended(solution: TokenMeans, shares: NDArray[np.float64], rank: float, surprisal: float) -> float:
    """RSR in closed form of solutions in which these shares are tokens of one mean rank and surprisal."""
    ranks = (1 - shares) * solution.rank + shares * rank
    return float(ranks.sum() / ((1 - shares) * solution.surprisal + shares * surprisal).sum())


def _draw_appended(table: pl.DataFrame, path: Path) -> None:
    columns = ("tokens", "rsr", "low", "high", "closed_form")
    parts = table.partition_by("appended", as_dict=True, maintain_order=True)
    curves(
        [("", [Curve(str(name), *(part[c].to_list() for c in columns)) for (name,), part in parts.items()])],
        x_label="tokens appended to a solution",
        y_label="RSR (lower is meant to be better)",
        title="The same solution, more text after it; dashed: closed form",
        path=path,
    )


def closed(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Tokens drawn evenly from a closed set of k: there is nothing to learn, and RSR is (k + 1) / (2 ln k)."""
    solution = scored(scorer, shown.known.answers).measured(shown.known.label, None)
    rows, by_set = [], []
    for sample in shown.closed:
        assert sample.counted is not None
        by_set.append(
            scored(scorer, sample.answers).measured(f"{sample.label} ({len(sample.counted)})", sample.counted)
        )
        rows.append({"k": len(sample.counted)} | _row(by_set[-1], closed_set(len(sample.counted)), config.bootstrap))
    least = min(by_set, key=lambda measured: measured.value)
    change = of_draws(least.value - solution.value, least.draws(config.bootstrap) - solution.draws(config.bootstrap))
    answer = (
        f"Words drawn evenly from a closed set have RSR {', '.join(f'{m.value:.2f} for {m.label}' for m in by_set)}, "
        f"solutions {solution.value:.2f}: the lowest, of {least.label}, is {_verdict(change)}."
    )
    table = pl.DataFrame(rows).sort("k", "label")
    drawn = [table[name].to_list() for name in ("k", "rsr", "low", "high", "closed_form")]
    level = solution.effect(config.bootstrap)
    ends = drawn[0][0], drawn[0][-1]
    line = Curve("solutions", ends, [level.value] * 2, [level.low] * 2, [level.high] * 2)
    curves(
        [("", [Curve("drawn evenly from k", *drawn), line])],
        x_label="k, size of the closed set",
        y_label="RSR (lower is meant to be better)",
        title="Words that nobody can know, drawn evenly from a closed set; dashed: (k + 1) / (2 ln k)",
        path=folder / "closed.png",
    )
    parts = ["## Small closed sets", _grid(table, ["label", "rank", "surprisal"])]
    return Mechanism(
        "closed", [_conclusion("Does RSR prefer chance to a solution?", answer, change, config)], parts, table
    )


def _row(measured: TokenMeans, form: float | None, bootstrap: BootstrapConfig) -> dict[str, Any]:
    effect, filled = measured.effect(bootstrap), measured.rank > 0
    return {
        "label": measured.label,
        "rank": float(measured.rank[filled].mean()),
        "surprisal": float(measured.surprisal[filled].mean()),
        "rsr": effect.value,
        "low": effect.low,
        "high": effect.high,
        "closed_form": form,
    } | {
        name + end: getattr(measured.effect(bootstrap, name), bound)
        for name in measured.beside
        for end, bound in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def _grid(table: pl.DataFrame, columns: Sequence[str]) -> str:
    def cell(value: object) -> str:
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    beside = [name for name in BESIDE if name in table.columns]
    rows = [
        [*(cell(row[name]) for name in columns), estimate_text(row["rsr"], row["low"], row["high"], ".2f")]
        + ["" if row["closed_form"] is None else f"{row['closed_form']:.2f}"]
        + [estimate_text(row[name], row[f"{name}_low"], row[f"{name}_high"], ".3f") for name in beside]
        for row in table.iter_rows(named=True)
    ]
    titles = [by_name(name).title for name in beside]
    return result_folder.markdown_table([*columns, "RSR [95 %]", "closed form", *titles], rows)


def _verdict(change: Effect) -> str:
    if not change.excludes_zero:
        return "not to be told from no change"
    return "better, as RSR has it" if change.value < 0 else "worse, as RSR has it"


def _conclusion(question: str, answer: str, change: Effect, config: FailuresConfig) -> Conclusion:
    basis = f"difference of RSR, {config.examples} problems, bootstrap over them, {config.student.name}"
    return Conclusion(question, answer, replace(change, basis=basis), "ranks per nat")


def _calibrated(what: str, before: TokenMeans, after: TokenMeans, config: FailuresConfig) -> list[Conclusion]:
    """How far calibrated RSR moves beside RSR (docs/calibrated_rsr.md, H2 and H3); nothing where expectations are not kept."""
    if not before.beside:
        return []
    names, bootstrap = ("calibrated_rsr", "rsr"), config.bootstrap
    moved = [float(np.log(after.value_of(name) / before.value_of(name))) for name in names]
    drawn = [np.log(after.draws(bootstrap, name) / before.draws(bootstrap, name)) for name in names]
    own, other = (of_draws(value, draws).text() for value, draws in zip(moved, drawn, strict=True))
    less = of_draws(abs(moved[0]) - abs(moved[1]), np.abs(drawn[0]) - np.abs(drawn[1]))
    basis = (
        f"difference of their absolute values, {config.examples} problems, bootstrap over them, {config.student.name}"
    )
    return [
        Conclusion(
            f"How far do {what} move calibrated RSR?",
            f"Log calibrated RSR moves by {own}, log RSR by {other}.",
            replace(less, basis=basis),
            "in log ratios",
        )
    ]
