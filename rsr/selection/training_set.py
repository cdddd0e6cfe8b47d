"""A training set: candidates from score tables and their sources, a rule's choice among them, and what it is made of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from rsr.data import export
from rsr.data.discovery import Source
from rsr.data.records import OnDemand
from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.grading.correctness import Correctness, correctness
from rsr.metrics.base import by_name
from rsr.metrics.score_tables import Scores, of_metric
from rsr.selection import formats, overlaps, trainers
from rsr.selection.candidates import gather
from rsr.selection.cautions import cautions
from rsr.selection.formats import Format
from rsr.selection.matching import Match, match
from rsr.selection.overlaps import Overlap
from rsr.selection.rules import CANDIDATES, Choice, Direction, Rule, choose
from rsr.selection.trainers import Training
from rsr.selection.weights import METRICS as OF_GAINS
from rsr.selection.weights import Weights, loss_and_learnability, number_weighed, weights_of, with_gains
from rsr.store.artefacts import write_bytes, writing

SCORE_COLUMNS = ("teacher", "generation", "trajectory", "problem", "group", "value", "tokens", "correct")
WEIGHT = "weight"  # of a record, where records have one

TOKENS = pl.when(pl.col("tokens").null_count() == 0).then(pl.col("tokens").sum())  # of all, or not known


@dataclass(frozen=True)
class TrainingSet:
    """Selected trajectories, in the order of `choice.chosen`.

    Attributes:
        records: the sources' own records.
        suffix: of the sources' files; ".jsonl" where they differ.
        sources: per dataset its file name, digest, and how many trajectories and malformed records it has.
        warnings: what a reader should know about the choice.
        weights: the method that the records' weights are of; None where they have none.
    """

    metric: str
    preset: str
    rule: Rule
    scores: Mapping[str, Any]
    choice: Choice
    trajectories: tuple[Trajectory, ...]
    records: Sequence[Any]
    suffix: str
    sources: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    match: Mapping[str, str] | None = None  # what it is equal in, and to which set
    overlaps: tuple[Overlap, ...] = ()
    weights: Weights | None = None

    @property
    def composition(self) -> pl.DataFrame:
        """Per teacher: selected, share, mean score, tokens, and how many are known to be correct, known to be wrong, or neither."""
        chosen = self.choice.chosen
        return (
            chosen.group_by("teacher")
            .agg(
                selected=pl.len(),
                share=pl.len() / len(chosen),
                mean_score=pl.col("value").mean(),
                tokens=TOKENS,
                correct=pl.col("correct").sum(),
                wrong=(~pl.col("correct")).sum(),
                unknown=pl.col("correct").null_count(),
            )
            .sort("selected", "teacher", descending=[True, False])
        )

    @property
    def tokens(self) -> int | None:
        """Response tokens of all; None where they are not known of some."""
        total: int | None = self.choice.chosen.select(TOKENS).item()
        return total

    @property
    def chosen_by(self) -> str:
        """What the values are, as tables call it."""
        return "LARK's gain" if self.weights else by_name(self.metric).title

    @property
    def _weights(self) -> dict[str, str]:
        """Said where there are some: other training sets keep their manifests."""
        return {"weights": self.weights} if self.weights else {}

    @property
    def reasons(self) -> dict[str, int]:
        """Why candidates were left out, counted."""
        return dict(self.choice.left_out.group_by("reason").len().sort("reason").iter_rows())

    @property
    def problems(self) -> tuple[int, int]:
        """Problems that the selected trajectories answer, and all problems of the candidates."""
        chosen, left_out = self.choice.chosen["problem"], self.choice.left_out["problem"]
        return chosen.n_unique(), pl.concat([chosen, left_out]).n_unique()

    def records_as(self, form: Format) -> Sequence[Any]:
        """The training set in a format.

        Raises:
            InputError: the sources' records have mixed formats. A record raises it when it is taken, if the format has no place for
                it, or if it holds a weight of its own already.
        """
        records: Sequence[Any]
        if form == "records":
            export.check_shapes(self.records)
            records = self.records
        else:
            records = OnDemand(partial(formats.convert, form=form), self.trajectories)
        if self.weights is None:
            return records
        return OnDemand(partial(_weighed, records, self.choice.chosen[WEIGHT].to_list()), range(len(records)))

    def suffix_of(self, form: Format) -> str:
        """What its file ends in: as the sources' files do, where the format can be written so."""
        return self.suffix if form == "records" else export.suffix_for(self.trajectories, self.suffix)

    def content(self, form: Format = "records", suffix: str | None = None) -> Iterator[bytes]:
        """The file of the training set, part by part.

        Args:
            suffix: of the file; None is that of `suffix_of`.

        Raises:
            InputError: see `records_as`; or the records do not fit into one file.
        """
        return export.encode(self.records_as(form), suffix or self.suffix_of(form))

    def write(self, folder: str | Path, form: Format = "records", *, student: str | None = None) -> Path:
        """Write the training set, its scores, what was left out, a manifest, and settings for trainers.

        Args:
            form: the sources' records unchanged, or each trajectory as it was scored in another format.
            student: folder or hub name for the trainers' settings.

        Returns:
            The file to train on.

        Raises:
            InputError: see `content`; or the folder holds something else, or cannot be written.
        """
        records, suffix, folder = self.records_as(form), self.suffix_of(form), Path(folder)
        chosen, left_out = self.choice.chosen, self.choice.left_out
        covered, problems = self.problems
        facts = {
            "selected": len(chosen),
            "problems": {"covered": covered, "of": problems},
            "format": form,
            "tokens": self.tokens,
            "rule": {"metric": self.metric, "preset": self.preset, **asdict(self.rule)} | self._weights,
            "ties": self.choice.ties,
            "composition": self.composition.to_dicts(),
            "left_out": self.reasons,
            "warnings": list(self.warnings),
            "overlaps": [asdict(o) for o in self.overlaps],
            **({"match": dict(self.match)} if self.match else {}),
            "scores": dict(self.scores),
            "sources": [dict(source) for source in self.sources],
        }
        tables = {
            "selected": chosen.select(*SCORE_COLUMNS, *([WEIGHT] if self.weights else [])),
            "left_out": left_out.select(*SCORE_COLUMNS, "reason"),
        }
        return export.write(
            folder, self.content(form), suffix, tables, facts, beside=self._beside(records, folder, suffix, student)
        )

    def write_file(self, file: str | Path, form: Format = "records") -> Path:
        """Write the records alone, in the format that the file's suffix says; a file that is there holds the same, or stays.

        Raises:
            InputError: see `content`; or the file holds something else, or cannot be written.
        """
        file = Path(file)
        content = b"".join(self.content(form, file.suffix))
        with writing(file):
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(file, content)
            elif file.read_bytes() != content:
                raise InputError(f"{file}: holds something else already: take another output file, or remove it")
        return file

    def _beside(self, records: Sequence[Any], folder: Path, suffix: str, student: str | None) -> dict[str, str]:
        """What trainers read beside the records, by name of file: where the turns are, and settings where it is known how the
        student was scored.
        """
        file_name = f"{export.TRAIN}{suffix}"
        files = {}
        if info := export.dataset_info(records, file_name):
            files[export.INFO] = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
        if "scoring" in self.scores:
            bf16 = self.scores["student"]["dtype"] == "bfloat16"
            training = Training(student, self.scores["scoring"]["max_length"], bf16)
            files |= trainers.settings(records[0], folder, file_name, training)
        return files

    def matched(self, by: Match, folder: str | Path) -> "TrainingSet":
        """The part of it that is of the size of a set that was written before (`rsr.selection.matching.match`).

        Raises:
            InputError: the folder holds no such set, or one that is larger.
        """
        chosen = self.choice.chosen
        kept, whole = match([chosen, _written(Path(folder))], by)
        if not whole.all():
            raise InputError(
                f"{folder}: has more {by.replace('_', ' ')} than this selection: select this one first, and match the other to it"
            )
        places = [place for place, keep in enumerate(kept) if keep]
        reason = f"beyond the {by.replace('_', ' ')} of {Path(folder).name}"
        before = self.choice.left_out
        out = chosen.filter(~kept).with_columns(reason=pl.lit(reason)).select(before.columns)
        left_out = pl.concat([before, out]).sort("problem", maintain_order=True)
        return replace(
            self,
            choice=replace(self.choice, chosen=chosen.filter(kept), left_out=left_out),
            trajectories=tuple(self.trajectories[place] for place in places),
            records=OnDemand(self.records.__getitem__, places),
            match={"by": by, "set": Path(folder).name},
        )


def select(
    scores: Scores,
    sources: Sequence[Source],
    rule: Rule,
    *,
    metric: str = "rsr",
    preset: str = "",
    weights: Weights | None = None,
    group: str | None = None,
    by_prompt: bool = False,
    correctness: Correctness = correctness,
    against: Sequence[str | Path] = (),
) -> TrainingSet:
    """Choose among the trajectories of sources by their scores.

    Args:
        weights: choose by the gain of this method instead of a metric, and weigh the records (`rsr.selection.weights`).
        group: field of the records that a quota is over; None is the teacher.
        by_prompt: all answers to one prompt are one problem, whatever their ids.
        correctness: says which answers are right.
        against: evaluation sets; what overlaps with one is left out.

    Raises:
        InputError: a source was not scored, or has changed since; a file is no evaluation set; the scores hold no such metric; a
            record lacks the field of the group; nothing is selected.
    """
    if weights is None:
        rows = of_metric(scores.trajectories, metric, preset)
    else:
        if metric != "rsr" or preset:
            raise InputError(f"weights {weights} choose by their own gain: leave out metric and preset")
        rows, metric = loss_and_learnability(scores.trajectories), OF_GAINS[0]
    for source in sources:
        _check_scored(scores, source)
    return put_together(
        rows,
        sources,
        rule,
        by_name(metric).direction,
        metric=metric,
        preset=preset,
        weights=weights,
        scores={"artefact": scores.artefact.id, **_identity(scores)},
        group=group,
        by_prompt=by_prompt,
        correctness=correctness,
        against=against,
    )


def put_together(
    rows: pl.DataFrame,
    sources: Sequence[Source],
    rule: Rule,
    direction: Direction,
    *,
    metric: str,
    preset: str = "",
    weights: Weights | None = None,
    scores: Mapping[str, Any],
    group: str | None = None,
    by_prompt: bool = False,
    correctness: Correctness = correctness,
    against: Sequence[str | Path] = (),
) -> TrainingSet:
    """Choose among the trajectories of sources by values from anywhere.

    Args:
        rows: teacher, generation, trajectory, value, tokens; a trajectory that is not among them has no value. With weights those of
            `rsr.selection.weights.loss_and_learnability`.
        metric, preset, scores: what the values are and where they are from, for the manifest.
        weights, group, by_prompt, correctness, against: see `select`.

    Raises:
        InputError: a record lacks the field of the group; nothing is selected; weights do not go with the rule.
    """
    best = None if weights is None else number_weighed(rule, weights)
    found, first = overlaps.find(sources, against)
    candidates, known = gather(rows, sources, rule, group, by_prompt, correctness, first)
    choice = choose(candidates if best is None else with_gains(candidates, rows), direction, rule)
    if best is not None:
        choice = replace(choice, chosen=choice.chosen.with_columns(weights_of(choice, best).alias(WEIGHT)))
    chosen = [known[key] for key in choice.chosen.select("teacher", "generation", "trajectory").iter_rows()]
    suffixes = {source.suffix for source in sources}
    records = OnDemand(_record, chosen)
    return TrainingSet(
        metric=metric,
        preset=preset,
        rule=rule,
        scores=scores,
        choice=choice,
        trajectories=tuple(trajectory for _, trajectory in chosen),
        records=records,
        suffix=suffixes.pop() if len(suffixes) == 1 else ".jsonl",
        weights=weights,
        sources=tuple(_described(source) for source in sources),
        warnings=cautions(sources, candidates, known, choice, rule, records),
        overlaps=found,
    )


def _written(folder: Path) -> pl.DataFrame:
    """The rows of a training set that was written before."""
    file = folder / "selected.csv"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name the folder of a set that was selected")
    kinds = {name: kind for name, kind in CANDIDATES.items() if name in SCORE_COLUMNS}
    try:
        return pl.read_csv(file, schema_overrides=kinds).select(SCORE_COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{folder}: holds no {file.name} that can be read: name the folder of a set that was selected"
        ) from error


def _record(chosen: tuple[Source, Trajectory]) -> Any:
    source, trajectory = chosen
    return source.records[trajectory.row]


def _weighed(records: Sequence[Mapping[str, Any]], weights: Sequence[float], place: int) -> dict[str, Any]:
    record = records[place]
    if WEIGHT in record:
        raise InputError(
            f"a selected record holds a {WEIGHT!r} of its own already: leave out weights (--weights), or the field"
        )
    return {**record, WEIGHT: weights[place]}


def _identity(scores: Scores) -> dict[str, Any]:
    facts = scores.artefact.facts
    return {"name": scores.trajectories["student"][0], "student": facts["student"], "scoring": facts["scoring"]}


def _described(source: Source) -> dict[str, Any]:
    dataset = source.dataset
    return {
        "dataset": dataset.name,
        "file": Path(source.place).name,
        "digest": dataset.digest(),
        "trajectories": len(dataset.trajectories),
        "malformed": [asdict(skipped) for skipped in dataset.skipped],
    }


def _check_scored(scores: Scores, source: Source) -> None:
    dataset = source.dataset
    if scores.artefact.facts["datasets"] is None:
        raise InputError(
            f"{scores.artefact.path}: scores without a token metric do not say of what data they are: score again with "
            "one, such as metrics=[rsr,...]"
        )
    own = scores.trajectories.filter(teacher=dataset.teacher, generation=dataset.generation)
    if own.is_empty():
        raise InputError(f"{dataset.name}: there are no scores of it: score it with the same student")
    scored = set(own["trajectory"])
    if len(scored) < len(dataset.trajectories):
        dataset = replace(dataset, trajectories=tuple(t for t in dataset.trajectories if t.id in scored))
    digests = {(d["teacher"], d["generation"]): d.get("data") for d in scores.artefact.facts["datasets"]}
    if digests[dataset.teacher, dataset.generation] is None:
        raise InputError(f"{scores.artefact.path}: made by an earlier version: remove it, and score again (in seconds)")
    if dataset.digest() != digests[dataset.teacher, dataset.generation]:
        raise InputError(f"{source.place}: has changed since it was scored as {dataset.name}: score it again")
