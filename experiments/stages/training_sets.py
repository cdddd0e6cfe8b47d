"""Training sets put together from the candidates of several teachers: by a score, at random, or all of them.

What several methods select from the same candidates may be cut to one size (`matched`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import polars as pl

from experiments.app.command_configs import Matching, SelectionSetting
from experiments.app.shared_configs import MetricsConfig
from experiments.stages import features, metric_scores, verification
from experiments.stages.random_selection import KEYS, RANDOM, chance, sources_of
from rsr.data import export, trajectories
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.metrics import by_name
from rsr.metrics.score_tables import Scores, of_metric
from rsr.selection import matching
from rsr.selection.rules import Direction, Rule
from rsr.selection.training_set import put_together
from rsr.selection.weights import METRICS as OF_GAINS
from rsr.selection.weights import Weights, loss_and_learnability
from rsr.store.artefacts import Artefact, find_or_begin
from rsr.store.csv import read_csv
from rsr.store.locks import locking

NONE = "none"  # the method that takes all candidates
LARK = "lark"  # the method that takes several answers to a problem, and weighs them
LARK_TAKES = 3  # as its source does
STAGE, FOLDER = "selected", "set"
# Raised when what is selected for the same key changes.
VERSION = 1
EQUAL = {
    Matching.tokens: "equal tokens",
    Matching.rows: "equal rows",
    Matching.teachers: "equal rows of each teacher",
    Matching.tokens_and_teachers: "equal tokens and rows of each teacher",
}


# --- candidates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Candidates for a training set.

    Attributes:
        label: how results call it, for example 33-to-1: candidates of a problem, and how many of them are taken.
        correct_first: whether candidates of a right answer go before the others.
    """

    label: str
    data: Sequence[Dataset]
    correct_first: bool = False


def first_generations(data: Sequence[Dataset]) -> list[Dataset]:
    """The first dataset of every teacher."""
    return list({dataset.teacher: dataset for dataset in reversed(data)}.values())[::-1]


def pools(settings: Sequence[SelectionSetting], data: Sequence[Dataset], fewer: Sequence[str]) -> list[Pool]:
    """The candidates of every setting; of settings that come to the same, as where there is one generation, the first.

    Raises:
        InputError: see `pool`.
    """
    all_pools = [pool(setting, data, fewer) for setting in settings]
    return list({one.label: one for one in reversed(all_pools)}.values())[::-1]


def pool(setting: SelectionSetting, data: Sequence[Dataset], fewer: Sequence[str]) -> Pool:
    """The candidates of a setting.

    Args:
        data: all datasets of all teachers.
        fewer: the teachers of the setting of that name.

    Raises:
        InputError: one of the fewer teachers is not there, or none is named.
    """
    if setting is SelectionSetting.fewer_teachers:
        if unknown := sorted({*fewer} - {dataset.teacher for dataset in data}):
            raise InputError(f"teachers.fewer names {', '.join(unknown)}: there are no data of these")
        if not fewer:
            raise InputError("selection.settings has fewer_teachers: name them with teachers.fewer=[...]")
        data = [dataset for dataset in data if dataset.teacher in fewer]
    if setting is SelectionSetting.one_generation:
        data = first_generations(data)
    more = {SelectionSetting.fewer_teachers: ", fewer teachers", SelectionSetting.correct_first: ", correct first"}.get(
        setting, ""
    )
    return Pool(f"{len(data)}-to-1{more}", data, setting is SelectionSetting.correct_first)


def values(method: str, data: Sequence[Dataset], scores: Scores, seed: int = 0) -> tuple[pl.DataFrame, Direction]:
    """What a method chooses by: rows as `rsr.selection.training_set.put_together` takes them, and which values it prefers.

    Raises:
        InputError: the scores hold no such metric.
    """
    tokens = of_metric(scores.trajectories, "rsr").select(*KEYS, "tokens")
    if method in (RANDOM, NONE):
        return chance(data, seed).drop("tokens").join(tokens, on=KEYS, how="left"), "lower"
    datasets = pl.DataFrame({"teacher": [d.teacher for d in data], "generation": [d.generation for d in data]})
    if method == LARK:
        return loss_and_learnability(scores.trajectories).join(datasets, on=KEYS[:2], how="semi"), "higher"
    rows = of_metric(scores.trajectories, method).select(*KEYS, "value").join(tokens, on=KEYS, how="left")
    return rows.join(datasets, on=KEYS[:2], how="semi"), by_name(method).direction


def scored(
    config: MetricsConfig, methods: Sequence[str], setting: str = "selection.methods"
) -> tuple[Scores, dict[str, str]]:
    """The scores that methods choose by, made where they are not there yet, and why a method cannot be had here.

    Args:
        setting: that names the methods, for messages.

    Raises:
        InputError: a method is none, or the scoring stage fails.
    """
    left_out: dict[str, str] = {}
    metrics = ["rsr"]
    for method in methods:
        if method in (RANDOM, NONE):
            continue
        if method == LARK:
            metrics += OF_GAINS
            continue
        metric = by_name(method)
        if "trajectory" not in metric.levels or metric.needs == "answers":
            raise InputError(f"{setting} has {method}, which has no score of a trajectory to choose by")
        if reason := features.missing(metric.needs, config):
            left_out[method] = reason
        else:
            metrics.append(method)
    return metric_scores.score_apart(replace(config, metrics=list(dict.fromkeys(metrics)))), left_out


# --- selections ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """A training set on disk: `set/train.jsonl`, and beside it what was chosen and left out, with scores.

    Attributes:
        label: of its pool, and what it is matched in.
        dataset: read from that file.
        whole: what a matched one is a part of.
    """

    method: str
    label: str
    artefact: Artefact
    dataset: Dataset
    whole: "Selection | None" = None

    @property
    def chosen(self) -> pl.DataFrame:
        """One row per trajectory: columns `rsr.selection.training_set.SCORE_COLUMNS`."""
        return read_csv(self.artefact.checked(f"{FOLDER}/selected.csv"), {"trajectory": pl.String})

    @property
    def ties(self) -> int:
        """Choices between equal scores, settled by the hash of the content."""
        return int(self.artefact.facts["ties"])


@locking
def select(
    method: str, pool: Pool, rule: Rule, scores: Scores, config: MetricsConfig, *, name: str = "", seed: int = 0
) -> Selection:
    """Select from a pool, or find it selected.

    Args:
        method: RANDOM, NONE (the rule is not applied), LARK (weighed; of a pool with correct ones first the correct alone), or the
            metric to choose by.
        name: of the dataset; "" is the method.
        seed: of what is chosen at random.

    Raises:
        InputError: nothing is selected, no answer is known where correct ones go first, or the disk is full.
    """
    rows, direction = values(method, pool.data, scores, seed)
    correct = _correct(pool, config) if pool.correct_first else {}
    rule = replace(rule, correct="first" if pool.correct_first else "ignore")
    rule = replace(rule, per_problem=None) if method == NONE else rule
    if method == LARK:
        rule = replace(rule, per_problem=LARK_TAKES, correct="only" if pool.correct_first else "ignore")
    key = {
        "stage": STAGE,
        "version": VERSION,
        "method": method,
        "data": [[dataset.name, dataset.digest()] for dataset in pool.data],
        "values": hashlib.sha256(rows.sort(KEYS).write_csv().encode()).hexdigest(),
        "correct": hashlib.sha256(repr(sorted(correct.items())).encode()).hexdigest() if correct else None,
        "rule": asdict(rule),
    }
    label = f"{config.student.name}-{name or method}-{pool.label}"
    artefact = find_or_begin(config.paths.outputs, STAGE, label, key)
    if artefact.manifest is None:
        sources = sources_of(pool.data, correct, unique_ids=rule.per_problem != 1)
        weights: Weights | None = "lark" if method == LARK else None
        origin = {"artefact": scores.artefact.id}
        made = put_together(rows, sources, rule, direction, metric=method, weights=weights, scores=origin)
        made.write(artefact.path / FOLDER)
        artefact = artefact.complete(selected=len(made.records), ties=made.choice.ties, left_out=made.reasons)
    file = artefact.checked(f"{FOLDER}/{export.TRAIN}.jsonl")
    return Selection(method, pool.label, artefact, trajectories.read(file, name or method, pool.label))


def matched(selections: Sequence[Selection], by: Matching, config: MetricsConfig) -> list[Selection]:
    """What several methods selected from one pool, cut to one size, or found so.

    Raises:
        InputError: see `rsr.selection.matching.match`; or the disk is full.
    """
    arms = [selection.chosen for selection in selections]
    digests = [hashlib.sha256(arm.write_csv().encode()).hexdigest() for arm in arms]
    kept = matching.match(arms, by.value)
    return [
        _part(selection, own, by, [digest, sorted(digests)], config)
        for selection, own, digest in zip(selections, kept, digests, strict=True)
    ]


@locking
def _part(whole: Selection, kept: pl.Series, by: Matching, arms: object, config: MetricsConfig) -> Selection:
    """Lines of a selection, as an artefact of its own.

    Args:
        arms: digests of the whole and of all that it is matched with.
    """
    label = f"{whole.label}, {EQUAL[by]}"
    key = {
        "stage": STAGE,
        "version": VERSION,
        "method": whole.method,
        "data": whole.dataset.digest(),
        "match": [matching.VERSION, by.value, arms],
    }
    name = f"{config.student.name}-{whole.dataset.teacher}-{label}"
    artefact = find_or_begin(config.paths.outputs, STAGE, name, key)
    if artefact.manifest is None:
        lines = whole.artefact.checked(f"{FOLDER}/{export.TRAIN}.jsonl").read_bytes().split(b"\n")
        left_out = whole.chosen.filter(~kept).with_columns(reason=pl.lit(f"beyond {EQUAL[by]}"))
        facts = {"selected": int(kept.sum()), "match": by.value, "of": whole.artefact.id, "left_out": len(left_out)}
        export.write(
            artefact.path / FOLDER,
            (line + b"\n" for line, keep in zip(lines, kept, strict=False) if keep),
            ".jsonl",
            {"selected": whole.chosen.filter(kept), "left_out": left_out},
            facts,
            beside={export.INFO: whole.artefact.checked(f"{FOLDER}/{export.INFO}").read_text(encoding="utf-8")},
        )
        artefact = artefact.complete(ties=whole.ties, **facts)
    file = artefact.checked(f"{FOLDER}/{export.TRAIN}.jsonl")
    return Selection(whole.method, label, artefact, trajectories.read(file, whole.dataset.teacher, label), whole)


def _correct(pool: Pool, config: MetricsConfig) -> dict[tuple[str, str, str], bool | None]:
    graded = verification.verified(pool.data, config.teachers.answer, config.teachers.grader, config.paths.outputs)
    if graded.is_empty():
        raise InputError(f"{pool.label}: no answer to any problem is known, so that none can be put first")
    return {(row[0], row[1], row[2]): row[3] for row in graded.select(*KEYS, "correct").iter_rows()}
