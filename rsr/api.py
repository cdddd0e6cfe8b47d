"""The verbs of `rsr` as functions: score, rank (also within groups), select, inspect, compare."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rsr.data import discovery
from rsr.data.discovery import Data, Source
from rsr.data.trajectories import Dataset, Fields, OnError
from rsr.errors import InputError
from rsr.grading.answer_judge import AnswerJudge
from rsr.grading.correctness import correctness
from rsr.grading.endpoint import JudgeSettings
from rsr.grading.grader import USUAL
from rsr.metrics import feature_tables, score_sets, score_tables
from rsr.metrics.score_tables import Progress, Scores, silent
from rsr.selection import groups, ranking, training_set
from rsr.selection.candidates import of_teachers
from rsr.selection.groups import GroupedRanking
from rsr.selection.matching import Match
from rsr.selection.ranking import By, Ranking
from rsr.selection.rules import Correct, Rule
from rsr.selection.training_set import TrainingSet
from rsr.selection.weights import Weights
from rsr.student.pretrained import check
from rsr.student.settings import Loading
from rsr.student.student import Student, of_model
from rsr.tokens.settings import Settings
from rsr.views import inspection
from rsr.views.inspection import Inspection

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from rsr.metrics.compare_scores import Comparison
    from rsr.tokens.engine import Scorer
    from rsr.tokens.late_scorer import LateScorer
    from rsr.tokens.score_dataset import Backend
    from rsr.tokens.token_store import TokenStore

    Model = str | Path | Student | tuple[PreTrainedModel, PreTrainedTokenizerFast]

OUTPUTS = Path("outputs")


def score(
    student: "Model",
    data: Data,
    *,
    metrics: Sequence[str] = ("tokens",),
    sample: int | None = None,
    fields: Fields | None = None,
    outputs: str | Path = OUTPUTS,
    on_error: OnError = "error",
    settings: Settings | None = None,
    devices: int = 1,
    progress: Progress = silent,
) -> Scores:
    """Score trajectories under a student, or find them scored.

    Args:
        student: a model folder or hub name, a loaded `Student`, or a transformers model with its tokenizer (which is known
            by the digest of its weights).
        data: files, folders, "hub:OWNER/NAME"; records such as {"messages": [...]} in a list or a datasets.Dataset; a chat
            as a list of messages; or any of these by name of teacher.
        metrics: names or groups (`rsr.metrics.select`) besides the token metrics, which come from the same pass all together.
        sample: problems of each dataset.
        fields: names that fields have in the records, by ours: {"teacher": "model", "correct": "is_right"}
            (`rsr.data.trajectories.FIELDS`).
        outputs: where artefacts are kept; finished artefacts are found again.
        devices: of this machine that share the work, each with a process of its own, by Ray
            (`rsr.tokens.ray_scoring.score_on_devices`); what is no token metric is measured on one.
        progress: called with a dataset, and the characters and tokens of it that are done since the last call.

    Raises:
        InputError: whatever is wrong with student, data, settings or disk.
    """
    read = _read(student, data, sample, on_error, fields)
    scorer = scorer_of(student, settings or Settings())
    label = label_of(data)
    return score_sources(
        scorer, read, outputs, metrics=metrics, label=label, on_error=on_error, devices=devices, progress=progress
    )


def rank(
    scores: Scores | str | Path,
    *,
    metric: str = "rsr",
    preset: str = "",
    by: By = "dataset",
    resamples: int = 10_000,
    seed: int = 0,
) -> Ranking:
    """Datasets in the order of a metric; see `rsr.selection.ranking.rank`.

    Args:
        scores: of `score`, or the folder that holds them.
    """
    return ranking.rank(_scores(scores).trajectories, metric, preset, by=by, resamples=resamples, seed=seed)


def rank_by(
    scores: Scores | str | Path,
    data: Data,
    field: str,
    *,
    metric: str = "rsr",
    preset: str = "",
    sample: int | None = None,
    fields: Fields | None = None,
    on_error: OnError = "error",
    resamples: int = 10_000,
    seed: int = 0,
) -> GroupedRanking:
    """Datasets in the order of a metric within each value of a field of their records; see `rsr.selection.groups.rank_by`.

    Args:
        data: what was scored, or part of it; `sample` and `fields` as they were (see `score`).
    """
    read = discovery.read(data, sample=sample, on_error=on_error, fields=fields)
    return groups.rank_by(_scores(scores).trajectories, read, field, metric, preset, resamples=resamples, seed=seed)


def select(
    scores: Scores | str | Path,
    data: Data,
    *,
    metric: str = "rsr",
    preset: str = "",
    weights: Weights | None = None,
    teachers: Sequence[str] = (),
    without: Sequence[str] = (),
    min_response_tokens: int | None = None,
    max_response_tokens: int | None = None,
    correct: Correct = "first",
    distinct: bool = False,
    per_problem: int | None = 1,
    quota: int | None = None,
    top: int | None = None,
    share: float | None = None,
    tokens: int | None = None,
    group: str | None = None,
    by_prompt: bool = False,
    match: tuple[Match, str | Path] | None = None,
    answers: Sequence[str] = USUAL,
    judge: JudgeSettings | None = None,
    against: Sequence[str | Path] = (),
    on_error: OnError = "error",
    fields: Fields | None = None,
) -> TrainingSet:
    """Choose a training set; see `rsr.selection.rules.Rule` and `rsr.selection.training_set.select`.

    Args:
        data: what was scored, or part of it.
        weights: choose by the gain of this method instead of the metric, and weigh the records (`rsr.selection.weights`).
        teachers, without: whose answers are looked at, and whose are not; none names all.
        match: what to make equal ("tokens", "rows", "teachers", "tokens_and_teachers"), and the folder of the set that it is to be
            equal to.
        answers: where a response says its answer, in order (`rsr.grading.grader.extract`).
        judge: decides on answers that are not found there; what it says is kept beside the scores.
        against: evaluation sets; what overlaps with one is left out.
        fields: see `score`.

    Raises:
        InputError: see there.
    """
    rule = Rule(min_response_tokens, max_response_tokens, correct, distinct, per_problem, quota, top, share, tokens)
    read = of_teachers(discovery.read(data, on_error=on_error, fields=fields), teachers, without)
    known = _scores(scores)
    asked = AnswerJudge(judge, known.artefact.path.parents[1]) if judge else None
    chosen = training_set.select(
        known,
        read,
        rule,
        metric=metric,
        preset=preset,
        weights=weights,
        group=group,
        by_prompt=by_prompt,
        correctness=partial(correctness, answers=answers, judge=asked),
        against=against,
    )
    return chosen.matched(*match) if match else chosen


def inspect(
    student: "Model",
    data: Data,
    which: str = "0",
    *,
    fields: Fields | None = None,
    settings: Settings | None = None,
) -> Inspection:
    """Look at one trajectory, by id or by place from 0.

    Args:
        fields: see `score`.

    Raises:
        InputError: there is no such trajectory, or it cannot be scored.
    """
    datasets = [source.dataset for source in _read(student, data, None, "error", fields)]
    dataset, trajectory = inspection.find(datasets, which)
    inspected = inspection.inspect(engine_of(student, settings or Settings()), dataset, trajectory)
    return replace(inspected, also=inspection.also_in(datasets, dataset, trajectory))


def compare(first: Scores | str | Path, second: Scores | str | Path) -> "Comparison":
    """Compare two score sets: score tables, or files of the reference implementation.

    Raises:
        InputError: one cannot be read, or they have no trajectory in common.
    """
    sets = [score_sets.read(_folder(scores)) for scores in (first, second)]
    from rsr.metrics import compare_scores

    return compare_scores.compare(*sets)


def score_sources(
    scorer: "Backend",
    read: Sequence[Source],
    outputs: str | Path = OUTPUTS,
    *,
    metrics: Sequence[str] = ("tokens",),
    label: str = discovery.OBJECTS,
    on_error: OnError = "error",
    devices: int = 1,
    progress: Progress = silent,
) -> Scores:
    """Score sources that are read already.

    Args:
        metrics, devices: see `score`.
        label: names the data in the folder of the tables, for people.

    Raises:
        InputError: see `score`.
    """
    datasets, root = [source.dataset for source in read], Path(outputs)
    others = feature_tables.measurable(metrics)
    full = f"{scorer.student.name}-{label}"
    if devices == 1:
        stores = score_tables.token_stores(scorer, datasets, root, on_error=on_error, progress=progress)
    else:
        stores = _token_stores_on_devices(scorer, datasets, root, devices, on_error=on_error, progress=progress)
    tables = score_tables.tabulate(stores, root, full)
    if not others:
        return tables
    return feature_tables.add(
        tables, others, partial(_loaded, scorer), datasets, root, full, on_error=on_error, progress=progress
    )


def _token_stores_on_devices(
    scorer: "Backend", datasets: Sequence[Dataset], root: Path, devices: int, *, on_error: OnError, progress: Progress
) -> "list[TokenStore]":
    """Scored by several processes, unless all is there."""
    from rsr.tokens.late_scorer import LateScorer
    from rsr.tokens.score_dataset import is_scored

    if all(is_scored(scorer, dataset, root) for dataset in datasets):
        return score_tables.token_stores(scorer, datasets, root, on_error=on_error, progress=progress)
    if not isinstance(scorer, LateScorer):
        raise InputError(
            f"devices={devices}: each loads the student itself: give its folder or name, not a loaded model"
        )
    try:
        from rsr.tokens.ray_scoring import score_on_devices
    except ImportError as error:
        raise InputError(f'devices={devices} needs Ray: pip install "rsr[ray]"') from error
    return score_on_devices(scorer, datasets, root, devices, on_error=on_error, progress=progress)


def label_of(data: Data) -> str:
    """The name of data for people: of the first file or folder, "data" for objects."""
    first = next(iter(data), None) if isinstance(data, tuple | list) else data
    if not isinstance(first, str | Path):
        return discovery.OBJECTS
    return Path(str(first).rpartition("=")[2].removeprefix("hub:")).absolute().stem or discovery.OBJECTS


def scorer_of(student: "Model", settings: Settings) -> "Scorer | LateScorer":
    """What scores under a student; one that is named is loaded when something is to be scored.

    Raises:
        InputError: see `rsr.student.student.describe` and `rsr.tokens.engine.Scorer`.
    """
    if isinstance(student, str | Path):
        from rsr.tokens.late_scorer import LateScorer

        loading = Loading(**{setting.name: getattr(settings, setting.name) for setting in fields(Loading)})
        return LateScorer(student, loading, settings)
    from rsr.tokens.engine import Scorer

    return Scorer(student if isinstance(student, Student) else of_model(*student, **settings.of_chats), settings)


def engine_of(student: "Model", settings: Settings) -> "Scorer":
    """The engine for a student, whose model is loaded.

    Raises:
        InputError: see `rsr.student.student.load` and `rsr.tokens.engine.Scorer`.
    """
    return _loaded(scorer_of(student, settings))


def _loaded(scorer: "Backend") -> "Scorer":
    from rsr.tokens.engine import Scorer
    from rsr.tokens.late_scorer import LateScorer

    loaded = scorer.scorer if isinstance(scorer, LateScorer) else scorer
    assert isinstance(loaded, Scorer)
    return loaded


def _read(student: "Model", data: Data, sample: int | None, on_error: OnError, fields: Fields | None) -> list[Source]:
    """Data first: what is wrong with it shows before a model is loaded."""
    if isinstance(student, str | Path):
        check(student)
    return discovery.read(data, sample=sample, on_error=on_error, fields=fields)


def _folder(scores: Scores | str | Path) -> Path:
    return scores.artefact.path if isinstance(scores, Scores) else Path(scores)


def _scores(scores: Scores | str | Path) -> Scores:
    return scores if isinstance(scores, Scores) else score_tables.read(Path(scores))
