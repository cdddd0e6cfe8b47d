"""Results on a terminal."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text

from rsr.cli.terminal import coloured, console, grid, name_cell, say
from rsr.errors import printable
from rsr.metrics import METRICS
from rsr.selection import conclusions
from rsr.selection.verdicts import share_right
from rsr.stats.rounding import length, number, percent, share, with_interval

if TYPE_CHECKING:
    from pathlib import Path

    from rsr.metrics.compare_scores import Comparison
    from rsr.selection.groups import GroupedRanking
    from rsr.selection.ranking import Ranking
    from rsr.selection.training_set import TrainingSet
    from rsr.selection.verdicts import Verdicts
    from rsr.tokens.dry_run import DryRun
    from rsr.views.inspection import Inspection


def show_estimate(dry_run: "DryRun") -> None:
    cut = f", {dry_run.truncated} cut" if dry_run.truncated else ""
    say(
        f"{dry_run.trajectories:,} trajectories, {dry_run.tokens:,} tokens ({dry_run.response_tokens:,} of responses), "
        f"longest {dry_run.longest:,}{cut}",
        f"time    about {_duration(dry_run.seconds)} at {dry_run.tokens_per_second:,.0f} tokens/s in a probe of {_duration(dry_run.probe_seconds)}",
        f"memory  {_size(dry_run.memory)} at the probe's peak, weights {_size(dry_run.weights)} of it: {_place(dry_run)}",
        f"disk    about {_size(dry_run.disk)}, free {_size(dry_run.free)}",
    )
    if dry_run.refused:
        say(f"{dry_run.refused} cannot be rendered verbatim and would stop the run, the first: {dry_run.first_refused}")


def _place(dry_run: "DryRun") -> str:
    """Whether the student fits on its device, or where it lies."""
    if len(dry_run.places) > 1:
        return "spread over " + ", ".join(f"{place} {_size(size)}" for place, size in dry_run.places.items())
    fits = "fits" if dry_run.memory <= dry_run.device_memory else "does not fit"
    return f"{fits} on {dry_run.device}, which has {_size(dry_run.device_memory)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def show_ranking(ranking: "Ranking", verdicts: "Mapping[str, Verdicts]") -> None:
    """Show an order, and what follows from it.

    Args:
        verdicts: on the answers of each dataset; none where no data were read.
    """
    say(*conclusions.basis(ranking))
    beside = ("right", "unknown") if verdicts else ()
    value = f"{conclusions.title(ranking)} [95 %]"
    table = grid("", "dataset", value, "best", "beats next", "length", "repetition", *beside)
    for i, place in enumerate(ranking.places):
        beats = percent(ranking.wins[i][i + 1]) if i + 1 < len(ranking.places) else ""
        value = with_interval(place.value, place.low, place.high)
        repetition = "not known" if place.repetition is None else share(place.repetition)
        best = percent(place.best) if len(ranking.places) > 1 else ""
        cells = [value, best, beats, length(place.length), repetition]
        if verdicts:
            counted = verdicts[place.dataset]
            cells += [share_right(counted), f"{counted.unknown:,}"]
        table.add_row(str(i + 1), name_cell(place.dataset), *cells)
    console().print(table)
    if len(ranking.places) < 2:
        say(
            "one dataset has no order: give several; where a file holds several teachers, --field teacher=NAME says which field names them"
        )
        return
    known = [conclusions.rightness(verdicts)] if verdicts else []
    say(*conclusions.reasons(ranking), *known, conclusions.decision(ranking, verdicts))


def show_groups(grouped: "GroupedRanking", verdicts: "Mapping[str, Verdicts]") -> None:
    """Show an order, and beside it the order of each group; `verdicts` as in `show_ranking`."""
    show_ranking(grouped.whole, verdicts)
    say("", f"within each {grouped.field} (agreement: Kendall's tau with the order of all)")
    table = grid(grouped.field, "trajectories", "problems", "agreement", "order")
    for group in grouped.groups:
        if group.ranking is None:
            table.add_row(name_cell(group.name), str(group.trajectories), "", "", name_cell(group.reason))
            continue
        order = ", ".join(f"{place.dataset} {number(place.value)}" for place in group.ranking.places)
        cells = (str(group.trajectories), str(group.ranking.problems), _coefficient(group.agreement))
        table.add_row(name_cell(group.name), *cells, name_cell(order))
    console().print(table)
    say(*conclusions.of_groups(grouped))


def show_training_set(training_set: "TrainingSet", file: "Path | None") -> None:
    """Say what was selected; on standard error where no file holds it, since it is in a pipe."""
    piped = file is None
    tell = partial(say, stderr=piped)
    chosen = training_set.choice.chosen
    tokens = training_set.tokens
    covered, problems = training_set.problems
    said = "unknown" if tokens is None else f"{tokens:,}"
    tell(f"{len(chosen)} trajectories selected, of {covered} of {problems} problems, {said} response tokens")
    table = grid("teacher", "selected", "share", f"mean {training_set.chosen_by}", "correct", "wrong", "unknown")
    ignored = training_set.rule.correct == "ignore"
    for row in training_set.composition.iter_rows(named=True):
        score = number(row["mean_score"])
        table.add_row(
            name_cell(row["teacher"]),
            str(row["selected"]),
            share(row["share"]),
            score,
            *("" if ignored else str(row[verdict]) for verdict in ("correct", "wrong", "unknown")),
        )
    console(stderr=piped).print(table)
    left_out = training_set.choice.left_out
    for name in sorted({*left_out["teacher"]} - {*chosen["teacher"]}):
        unknown = not ignored and left_out.filter(teacher=name)["correct"].is_null().all()
        why = ": whether its answers are right is unknown, and others are known to be" if unknown else ""
        tell(f"nothing is selected of {name}{why}")
    tell(*(f"left out: {count} {reason}" for reason, count in training_set.reasons.items()))
    if training_set.choice.ties:
        tell(f"{training_set.choice.ties} ties settled by content")
    for overlap in training_set.overlaps:
        short = f" ({overlap.too_short} too short to compare)" if overlap.too_short else ""
        tell(
            f"{len(overlap.hits)} overlap with {overlap.evaluation}, {overlap.problems} problems{short}, and are left out"
        )
    tell(*(f"note: {warning}" for warning in training_set.warnings))
    if not piped:
        say(f"Written to {file}")


def show_inspection(inspection: "Inspection", tokens: int) -> None:
    out = console()
    say(f"{inspection.dataset}, {inspection.trajectory} under {inspection.student}", inspection.summary)
    if inspection.also:
        named = ", ".join(f"{dataset}:{inspection.trajectory}" for dataset in inspection.also)
        say(f"by the same id (--trajectory): {named}")
    say("")
    text = Text()
    for segment, scored in inspection.segments:
        shown = segment if not scored else f"[{len(segment)} characters scored]"
        text.append(printable(shown), style="bold" if scored else "dim")
    out.print(text, soft_wrap=True)
    out.print(coloured(inspection.tokens[:tokens]), soft_wrap=True)
    if len(inspection.tokens) > tokens:
        say(f"(the first {tokens} of {len(inspection.tokens)} tokens)")
    if len(inspection.turns) > 1:
        by_turn = grid("message", "tokens", "RSR", "mean surprisal")
        for turn in inspection.turns:
            values = ["no value" if v is None else f"{v:.3f}" for v in (turn.rsr, turn.mean_surprisal)]
            by_turn.add_row(str(turn.message), str(turn.tokens), *values)
        out.print(by_turn)
    table = grid("highest rank", "rank", "surprisal", "highest surprisal", "rank", "surprisal")
    for one, other in zip(inspection.highest("rank"), inspection.highest("surprisal"), strict=True):
        cells = [(repr(t.text), str(t.rank), f"{t.surprisal:.2f}") for t in (one, other)]
        table.add_row(*(Text(cell) for row in cells for cell in row))
    out.print(table)


def show_comparison(comparison: "Comparison") -> None:
    say(f"first:  {comparison.first}", f"second: {comparison.second}")
    say(
        f"{comparison.shared} trajectories in both, {comparison.only_first} only in the first, {comparison.only_second} only in the second"
    )
    say(*(f"warning: {warning}" for warning in comparison.warnings))
    table = grid("", "Spearman", "median change", "largest change", "order of datasets")
    for agreement in comparison.agreements:
        table.add_row(
            METRICS[agreement.metric].title,
            _coefficient(agreement.spearman),
            f"{agreement.median:.2%}",
            f"{agreement.largest:.2%}",
            _coefficient(agreement.order),
        )
    console().print(table)
    values = grid("dataset", "RSR, first", "RSR, second", "change")
    for name, (first, second) in comparison.agreements[0].datasets.items():
        values.add_row(name_cell(name), f"{first:.3f}", f"{second:.3f}", f"{second / first - 1:+.2%}")
    console().print(values)
    if comparison.tokens is not None:
        t = comparison.tokens
        say(
            f"of {t.tokens:,} tokens {t.same_rank:.1%} have the same clipped rank; surprisal differs by {t.mean:.4f} nats on "
            f"average, by {t.largest:.4f} at most"
        )


def _coefficient(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
