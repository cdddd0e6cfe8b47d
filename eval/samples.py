"""The sampling stage: a model's answers to a benchmark, in shards that can be resumed."""

import time
from collections.abc import Mapping
from copy import copy
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from eval.benchmarks import Benchmark
from eval.settings import Evaluation
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, begin, locate
from rsr.store.locks import locking
from rsr.store.parquet import read_parquet, write_parquet

if TYPE_CHECKING:
    from eval.model import StudentLM

# Raised when what samples of the same key are changes.
VERSION = 2
STAGE = "samples"
SHARD = 50  # problems
SCHEMA: dict[str, pl.DataType] = {
    "problem": pl.String(),
    "sample": pl.Int64(),
    "gold": pl.String(),
    "prompt_tokens": pl.Int64(),
    "tokens": pl.List(pl.UInt32()),
    "text": pl.String(),
    "finish_reason": pl.String(),
}


def samples_key(model: Mapping[str, Any], benchmark: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
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
        "sampling": evaluation.identity(),
    }


def find(
    root: Path, label: str, model: Mapping[str, Any], benchmark: Mapping[str, Any], evaluation: Evaluation
) -> Artefact:
    """The samples of a model, complete or to be filled by `draw`; the arguments are those of `samples_key`.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    return locate(root, STAGE, f"{label}-{benchmark['name']}", samples_key(model, benchmark, evaluation))


@locking
def draw(
    artefact: Artefact,
    lm: "StudentLM",
    benchmark: Benchmark,
    evaluation: Evaluation,
) -> Artefact:
    """Answer a benchmark; killed and called again, it loses at most the shard in flight.

    Raises:
        InputError: a prompt is too long, all samples are copies of one another, or the disk is full.
    """
    artefact = begin(artefact)
    if artefact.manifest is not None:
        return artefact
    began, drawn = time.perf_counter(), 0
    names = []
    for i in range(0, len(benchmark.documents), SHARD):
        documents = benchmark.documents[i : i + SHARD]
        name = _shard(i // SHARD)
        if not artefact.holds(name):
            rows = _answers(lm, benchmark, documents, evaluation)
            write_parquet(rows, artefact.path / name)
            drawn += int(rows["tokens"].list.len().sum())
        else:
            lm.advance(len(documents) * evaluation.samples)
        names.append(name)
    rows = pl.concat(read_parquet(artefact, name) for name in names)
    _refuse_copies(rows, benchmark, evaluation)
    return artefact.complete(
        shards=len(names),
        problems=len(benchmark.documents),
        samples=len(rows),
        answer_pattern=benchmark.answer_pattern,
        seconds=round(time.perf_counter() - began, 3),
        tokens_in_those_seconds=drawn,
        computed_with={"device": lm.student.device.type, "batch_size": evaluation.batch_size},
        versions={name: version(name) for name in ("torch", "transformers", "lm_eval")},
    )


def read(artefact: Artefact) -> pl.DataFrame:
    """Samples of a complete artefact, one row each (columns: `SCHEMA`).

    Raises:
        InputError: a shard is missing or damaged.
    """
    return pl.concat(read_parquet(artefact, _shard(i)) for i in range(artefact.facts["shards"]))


def _shard(index: int) -> str:
    return f"shard-{index:05d}.parquet"


def _answers(
    lm: "StudentLM", benchmark: Benchmark, documents: list[dict[str, str]], evaluation: Evaluation
) -> pl.DataFrame:
    task = copy(benchmark.task)
    wanted = {d["id"] for d in documents}
    positions = [i for i, d in enumerate(benchmark.documents) if d["id"] in wanted]
    settings = {
        "temperature": evaluation.temperature,
        "top_p": evaluation.top_p,
        "max_gen_toks": evaluation.max_new_tokens,
    }
    task.build_all_requests(samples=positions, apply_chat_template=True, chat_template=lm.apply_chat_template)
    requests = [request for request in task.instances for _ in range(evaluation.samples)]
    for request in task.instances:
        request.arguments = (request.arguments[0], settings)
    lm.generate_until(requests)
    rows = [
        {
            "problem": request.doc["id"],
            "sample": i % evaluation.samples,
            "gold": request.doc["answer"],
            "prompt_tokens": len(answer.prompt),
            "tokens": answer.tokens,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
        }
        for i, (request, answer) in enumerate(zip(requests, lm.answers, strict=True))
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _refuse_copies(rows: pl.DataFrame, benchmark: Benchmark, evaluation: Evaluation) -> None:
    """Seeds that reach every sample of a problem alike would make k samples of one."""
    distinct = rows.group_by("problem").agg(pl.col("text").n_unique())["text"]
    if evaluation.samples > 1 and len(distinct) >= 10 and (distinct == 1).all():
        raise InputError(
            f"benchmark {benchmark.name}: the {evaluation.samples} samples of every problem are copies of one another"
        )
