"""Results on a terminal."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from rsr.cli.terminal import coloured, console, grid, interval, name_cell, number, percent, say
from rsr.errors import printable
from rsr.metrics import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from rsr.metrics.compare_scores import Comparison
    from rsr.selection.groups import GroupedRanking
    from rsr.selection.ranking import EqualLength, Ranking
    from rsr.selection.training_set import TrainingSet
    from rsr.tokens.dry_run import DryRun
    from rsr.views.inspection import Inspection


def show_estimate(dry_run: "DryRun") -> None:
    cut = f", {dry_run.truncated} cut" if dry_run.truncated else ""
    say(
        f"{dry_run.trajectories:,} trajectories, {dry_run.tokens:,} tokens ({dry_run.response_tokens:,} of responses), "
        f"longest {dry_run.longest:,}{cut}",
        f"time    about {_duration(dry_run.seconds)} at {dry_run.tokens_per_second:,.0f} tokens/s in a short probe",
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


def show_ranking(ranking: "Ranking") -> None:
    title = METRICS[ranking.metric].title + (f" ({ranking.preset})" if ranking.preset else "")
    say(f"{title}, {ranking.direction} is better, on {ranking.problems} problems that all datasets have a value for")
    if ranking.left_out:
        say(f"{ranking.left_out} problems are left out: some dataset has no value for them")
    table = grid("", "dataset", f"{title} [95 %]", "best", "beats next", "length")
    for i, place in enumerate(ranking.places):
        beats = percent(ranking.wins[i][i + 1]) if i + 1 < len(ranking.places) else ""
        values = interval(asdict(place))
        length = "not known" if place.length is None else f"{place.length:.0f}"
        table.add_row(str(i + 1), name_cell(place.dataset), values, percent(place.best), beats, length)
    console().print(table)
    if len(ranking.places) < 2:
        say("one dataset has no order: give several")
        return
    say(_settled(ranking), *_choices(ranking), *_lengths(ranking), _decision(ranking))


def show_groups(grouped: "GroupedRanking") -> None:
    show_ranking(grouped.whole)
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


def _decision(ranking: "Ranking") -> str:
    first, *others = ranking.places
    alike = [place.dataset for place in others if not place.told_apart]
    if not alike:
        return f"train on {first.dataset}: by this metric it is told apart from all others"
    return (
        f"train on {first.dataset}, or on what cannot be told apart from it by this metric: {', '.join(alike)}. "
        "More right answers, or fewer tokens, may decide"
    )


def _settled(ranking: "Ranking") -> str:
    first, second = (place.dataset for place in ranking.places[:2])
    if ranking.to_settle is None:
        return f"{first} and {second} are equal: nothing would settle their order"
    if ranking.to_settle == 0:
        return f"the order of {first} and {second} is settled: the 95 % interval of their difference excludes 0"
    return (
        f"to settle the order of {first} and {second}: about {ranking.to_settle:,} more problems, a trajectory "
        "of each dataset for each (an estimate, if the difference stays)"
    )


def _choices(ranking: "Ranking") -> list[str]:
    own = ranking.places[0].dataset
    parts = [
        f"{METRICS[name].title.lower()} {'the same' if chosen == own else chosen}"
        for name, chosen in ranking.choices.items()
    ]
    return [f"others would choose: {', '.join(parts)}"] if parts else []


def _lengths(ranking: "Ranking") -> list[str]:
    def names(lengths: "list[EqualLength]") -> str:
        return ", ".join(length.dataset for length in lengths)

    if not ranking.lengths:
        return ["whether length explains the order is not known: the scores of this metric do not say it"]
    explained = [length for length in ranking.lengths if length.explains]
    first = ranking.places[0].dataset
    if not explained:
        return [f"length explains the lead of {first} over none of the others"]
    return [f"at equal length the lead of {first} cannot be told from 0 over: {names(explained)}"]


def show_training_set(training_set: "TrainingSet", file: "Path") -> None:
    chosen = training_set.choice.chosen
    tokens = training_set.tokens
    say(f"{len(chosen)} trajectories selected, {'unknown' if tokens is None else f'{tokens:,}'} response tokens")
    table = grid("teacher", "selected", "share", f"mean {training_set.metric}", "correct", "wrong")
    for row in training_set.composition.iter_rows(named=True):
        score = number(row["mean_score"])
        table.add_row(
            name_cell(row["teacher"]),
            str(row["selected"]),
            f"{row['share']:.0%}",
            score,
            str(row["correct"]),
            str(row["wrong"]),
        )
    console().print(table)
    say(*(f"left out: {count} {reason}" for reason, count in training_set.reasons.items()))
    if training_set.choice.ties:
        say(f"{training_set.choice.ties} ties settled by content")
    for overlap in training_set.overlaps:
        short = f" ({overlap.too_short} too short to compare)" if overlap.too_short else ""
        say(f"{len(overlap.hits)} selected overlap with {overlap.evaluation}, {overlap.problems} problems{short}")
    say(*(f"note: {warning}" for warning in training_set.warnings), f"Written to {file}")


def show_inspection(inspection: "Inspection", tokens: int) -> None:
    out = console()
    say(f"{inspection.dataset}, {inspection.trajectory} under {inspection.student}", inspection.summary, "")
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
