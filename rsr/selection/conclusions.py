"""What follows from a ranking, in sentences."""

from collections.abc import Mapping, Sequence

from rsr.metrics import METRICS
from rsr.selection.groups import GroupedRanking
from rsr.selection.ranking import FIRM, Place, Ranking
from rsr.selection.verdicts import Verdicts, share_right
from rsr.stats.rounding import length

MOST = 10_000  # further problems that anyone would add to settle an order; the paper has 5,000 a teacher
WITHOUT_REPEATS = "rsr_without_repeats"
DESCRIBES = ("repetition",)  # metrics of what texts are like, which no paper chooses teachers by
METRIC_OF = {"length": "avg_token_length", "repetition": "repetition"}  # which explain no order of their own


def title(ranking: Ranking) -> str:
    """The metric with its preset, as tables call it."""
    return METRICS[ranking.metric].title + (f" ({ranking.preset})" if ranking.preset else "")


def basis(ranking: Ranking) -> list[str]:
    """What is compared, and on which problems."""
    compared = f"{title(ranking)}, {ranking.direction} is better, on {ranking.problems} problems that all datasets have a value for"
    left_out = f"{ranking.left_out} problems are left out: some dataset has no value for them"
    return [compared, left_out] if ranking.left_out else [compared]


def decision(ranking: Ranking, verdicts: Mapping[str, Verdicts]) -> str:
    """Which dataset to train on, which others would be as good, and what may decide among them.

    Args:
        verdicts: on the answers of each dataset, where they were looked at.
    """
    first, *others = ranking.places
    if ranking.metric in DESCRIBES:
        return (
            f"{first.dataset} comes first, and is no better to train on for that: {title(ranking).lower()} says what the texts are like, "
            "not what they teach. Rank by another metric"
        )
    alike = [place for place in others if not place.told_apart]
    if not alike:
        return f"train on {first.dataset}: by this metric it is told apart from all others"
    names = ", ".join(place.dataset for place in alike)
    return ". ".join(
        [
            f"train on {first.dataset}, or on what cannot be told apart from it by this metric: {names}",
            *_most_right([first, *alike], verdicts),
            *_shortest([first, *alike]),
        ]
    )


def _most_right(places: Sequence[Place], verdicts: Mapping[str, Verdicts]) -> list[str]:
    """Which of these datasets have the most right answers; nothing where none is known to be right."""
    own = {place.dataset: verdicts.get(place.dataset, Verdicts()) for place in places}
    most = max(counts.right for counts in own.values())
    if not most:
        return []
    named = ", ".join(f"{name} ({share_right(counts)})" for name, counts in own.items() if counts.right == most)
    unknown = (
        "; more may be, where answers are unknown, which `rsr select` puts behind"
        if any(counts.unknown for counts in own.values())
        else ""
    )
    return [f"Most right answers among these: {named}{unknown}"]


def _shortest(places: Sequence[Place]) -> list[str]:
    """Which of these datasets has the shortest responses; nothing where lengths are not known."""
    lengths = [(place.length, place.dataset) for place in places if place.length is not None]
    if len(lengths) < len(places):
        return []
    shortest, name = min(lengths)
    return [f"Shortest responses among these: {name} ({length(shortest)} tokens on average)"]


def rightness(verdicts: Mapping[str, Verdicts]) -> str:
    """Of how many trajectories it is known whether they are right, since a ranking does not look at it."""
    every = sum(verdicts.values(), Verdicts())
    return f"whether answers are right is known for {every.known:,} of {every.known + every.unknown:,} trajectories, and does not count in this order"


def reasons(ranking: Ranking) -> list[str]:
    """How sure the order is, what others would choose, and what length and repetition have to do with it."""
    return [_settled(ranking), *_choices(ranking), *_explained(ranking)]


def _settled(ranking: Ranking) -> str:
    first, second = (place.dataset for place in ranking.places[:2])
    if ranking.to_settle is None:
        return f"{first} and {second} are equal: nothing would settle their order"
    if ranking.to_settle == 0:
        settled = f"the order of {first} and {second} is settled: the 95 % interval of their difference excludes 0"
        if ranking.problems < FIRM:
            settled += f"; these are {ranking.problems} problems, and {FIRM} or more make it firm"
        return settled
    if ranking.to_settle > MOST:
        return f"{first} and {second} are as good as equal: more than {MOST:,} further problems would have to settle their order"
    return (
        f"to settle the order of {first} and {second}: about {ranking.to_settle:,} more problems, a trajectory "
        "of each dataset for each (an estimate, if the difference stays)"
    )


def _choices(ranking: Ranking) -> list[str]:
    own = ranking.places[0].dataset
    parts = [
        f"{METRICS[name].title.lower()} {chosen}{' as well' if chosen == own else ''}"
        for name, chosen in ranking.choices.items()
    ]
    return [f"others would choose: {', '.join(parts)}"] if parts else []


def _explained(ranking: Ranking) -> list[str]:
    """Whether what is longer, or repeats itself, leads for that alone."""
    first, lines, unknown = ranking.places[0].dataset, [], []
    for trait, differences in {"length": ranking.lengths, "repetition": ranking.repetitions}.items():
        if ranking.metric == METRIC_OF[trait]:
            continue
        if not differences:
            unknown.append(trait)
        if stays := ", ".join(d.dataset for d in differences if d.stays):
            lines.append(
                f"{trait} does not explain the lead of {first} over {stays}: it is there at equal {trait}, too"
            )
        if explained := ", ".join(d.dataset for d in differences if d.explained):
            mend = f" (the metric {WITHOUT_REPEATS} leaves out what is repeated)" if trait == "repetition" else ""
            lines.append(
                f"{trait} may explain the lead of {first} over {explained}: at equal {trait} it cannot be told from 0{mend}"
            )
    if unknown:
        lines.append(f"whether {' or '.join(unknown)} explains the order is not known: the scores do not say it")
    return lines


def of_groups(grouped: GroupedRanking) -> list[str]:
    """Whether the order of all is that of its groups."""
    ordered = [(g, g.ranking, g.agreement) for g in grouped.groups if g.ranking and g.agreement is not None]
    if not ordered:
        return [f"no {grouped.field} has an order of its own, so that none can differ from that of all"]
    agreements = sorted((agreement, group.name) for group, _, agreement in ordered)
    (low, lowest), (high, highest) = agreements[0], agreements[-1]
    spread = f"{low:+.2f} in each" if low == high else f"from {low:+.2f} ({lowest}) to {high:+.2f} ({highest})"
    apart = f"the order of all is not that within every {grouped.field}: agreement {spread}"
    lines = [f"the order of all is that within every {grouped.field}" if low == 1 else apart]
    first = grouped.whole.places[0].dataset
    leads = [f"{group.name} ({_lead(ranking)})" for group, ranking, _ in ordered if ranking.places[0].dataset != first]
    return [*lines, *([f"{first}, the first of all, is not the first in: {', '.join(leads)}"] if leads else [])]


def _lead(ranking: Ranking) -> str:
    """The first, and how sure that is."""
    return f"{ranking.places[0].dataset}, {'settled' if ranking.to_settle == 0 else 'not settled'}"
