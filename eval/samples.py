"""The sampling stage: a model's answers to a benchmark, each of them kept when it comes in."""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from eval.benchmarks import Benchmark
from eval.sampling import Completion, Request, Sampler
from eval.settings import Evaluation, Way
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, begin, locate
from rsr.store.journal import Journal
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from eval.model import ChatModel

# Raised when what samples of the same key are changes.
VERSION = 3
STAGE = "samples"
SAMPLES = "samples.parquet"
ANSWERS = "answers"  # folder of the journal, until all are there
SCHEMA: dict[str, pl.DataType] = {
    "problem": pl.String(),
    "sample": pl.Int64(),
    "gold": pl.String(),
    "prompt_tokens": pl.Int64(),
    "tokens": pl.List(pl.UInt32()),
    "text": pl.String(),
    "finish_reason": pl.String(),
}


def samples_key(
    model: Mapping[str, Any], benchmark: Mapping[str, Any], evaluation: Evaluation, way: Way
) -> dict[str, Any]:
    """Everything that shapes the samples.

    Args:
        model: what identifies the model and its dtype; of a trained one the key that it was trained under, so that an
            evaluation outlives the weights.
        benchmark: its identity (`eval.benchmarks.Benchmark.identity`).
    """
    return {
        "stage": STAGE,
        "version": VERSION,
        "model": dict(model),
        "benchmark": dict(benchmark),
        "sampling": evaluation.identity(way),
    }


def find(
    root: Path, label: str, model: Mapping[str, Any], benchmark: Mapping[str, Any], evaluation: Evaluation, way: Way
) -> Artefact:
    """The samples of a model, complete or to be filled by `draw`; the arguments are those of `samples_key`.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    return locate(root, STAGE, f"{label}-{benchmark['name']}", samples_key(model, benchmark, evaluation, way))


@locking
def draw(
    artefact: Artefact,
    model: "ChatModel",
    sampler: Sampler,
    benchmark: Benchmark,
    evaluation: Evaluation,
    advance: Callable[[int], None] = lambda answers: None,
) -> Artefact:
    """Answer a benchmark; killed and called again, it loses at most the answers in flight.

    Args:
        advance: called with the number of answers that have come in, or were there.

    Raises:
        InputError: a prompt is too long, an answer cannot be had, all samples are copies of one another, or the disk is full.
    """
    artefact = begin(artefact)
    if artefact.manifest is not None:
        return artefact
    began, drawn = time.perf_counter(), 0
    journal = Journal(artefact.path / ANSWERS / "answers.jsonl")
    rows = {(row["problem"], row["sample"]): row for row in journal.records()}
    wanted = requests(benchmark, model, evaluation)
    gold = {document["id"]: document["answer"] for document in benchmark.documents}
    missing = [request for request in wanted if request.source[2:] not in rows]
    advance(len(wanted) - len(missing))
    for place, completion in sampler.answers(missing):
        row = _row(model, missing[place], completion, gold)
        journal.append(row)
        rows[row["problem"], row["sample"]] = row
        drawn += len(completion.tokens)
        advance(1)
    table = pl.DataFrame([rows[request.source[2:]] for request in wanted], schema=SCHEMA)
    _refuse_copies(table, benchmark, evaluation)
    write_parquet(table, artefact.path / SAMPLES)
    return artefact.complete(
        ANSWERS,
        problems=len(benchmark.documents),
        samples=len(table),
        answer_pattern=benchmark.answer_pattern,
        seconds=round(time.perf_counter() - began, 3),
        tokens_in_those_seconds=drawn,
        computed_with=dict(sampler.facts()),
        versions={name: version(name) for name in ("torch", "transformers", "lm_eval")},
    )


def read(artefact: Artefact) -> pl.DataFrame:
    """Samples of a complete artefact, one row each (columns: `SCHEMA`).

    Raises:
        InputError: they are missing or damaged.
    """
    return read_parquet(artefact, SAMPLES)


def requests(benchmark: Benchmark, model: "ChatModel", evaluation: Evaluation) -> list[Request]:
    """One request for each sample of each problem, in their order; the same whatever answers them.

    Raises:
        InputError: a prompt is too long, or the template refuses it.
    """
    prompts = model.prompts(benchmark)
    return [
        Request(prompt, model.room(len(prompt), evaluation.max_new_tokens), (evaluation.seed, benchmark.name, id, n))
        for id, prompt in ((document["id"], prompts[document["id"]]) for document in benchmark.documents)
        for n in range(evaluation.samples)
    ]


def _row(model: "ChatModel", request: Request, completion: Completion, gold: Mapping[str, str]) -> dict[str, Any]:
    _, _, problem, sample = request.source
    return {
        "problem": problem,
        "sample": sample,
        "gold": gold[problem],
        "prompt_tokens": len(request.prompt),
        "tokens": completion.tokens,
        "text": model.text(request.prompt, completion.tokens),
        "finish_reason": completion.finish_reason,
    }


def _refuse_copies(rows: pl.DataFrame, benchmark: Benchmark, evaluation: Evaluation) -> None:
    """Seeds that reach every sample of a problem alike would make k samples of one."""
    distinct = rows.group_by("problem").agg(pl.col("text").n_unique())["text"]
    if evaluation.samples > 1 and len(distinct) >= 10 and (distinct == 1).all():
        raise InputError(
            f"benchmark {benchmark.name}: the {evaluation.samples} samples of every problem are copies of one another"
        )
