"""What is measured at growing size: each task runs in a process of its own and names the files that it reads or leaves.

A task prepares what it needs (libraries, a student, data) and gives the function whose time is taken.

A size is a number of shards of each dataset of a generated store (see `generated`); of scoring a number of shards, of the
report a number of results; of many datasets, many files and a long answer see there.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.generated import PROMPT, SHARD, stores
from experiments.app.command_configs import Ablation
from experiments.app.shared_configs import ROOT
from rsr.tokens.token_store import shard_name

DATASETS, CHARACTERS = 25, 100_000  # a unit of size of many datasets, and of a long answer
Run = Callable[[], Iterable[Path]]  # what is timed


def scoring(folder: Path, size: int) -> Run:
    """A dataset scored by a tiny student, and its token store."""
    from experiments.miniature import words
    from rsr.data import trajectories
    from rsr.student import student as students
    from rsr.tokens.engine import Scorer
    from rsr.tokens.score_dataset import score_dataset
    from rsr.tokens.settings import Scoring

    root = _fresh(folder / f"scoring-{size}")
    tiny_student(root / "student")
    rng = np.random.default_rng(0)
    chats = [
        [
            {"role": "user", "content": " ".join(rng.choice(words.OBJECTS, 10))},
            {"role": "assistant", "content": " ".join(rng.choice(words.OBJECTS, n))},
        ]
        for n in rng.integers(20, 200, size * SHARD)
    ]
    data = trajectories.parse(((f"record {i}", {"messages": chat}) for i, chat in enumerate(chats)), "teacher", "")
    scorer = Scorer(students.load(root / "student", dtype="float32", device="cpu"), Scoring())
    return lambda: score_dataset(scorer, data, root).artefact.path.glob("*.parquet")


def tiny_student(folder: Path) -> Path:
    """A model folder of random weights that reads the miniature's words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from experiments.miniature import words

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words.vocabulary()), **shape)).save_pretrained(folder)
    words.tokenizer(words.vocabulary()).save_pretrained(folder)
    return folder


def many_datasets(folder: Path, size: int) -> Run:
    """Tables of `DATASETS` datasets for each of the size, a file and a trajectory each."""
    from rsr.api import score
    from rsr.tokens.settings import Settings

    root = _fresh(folder / f"datasets-{size}")
    student, data = tiny_student(root / "student"), root / "data"
    data.mkdir()
    for i in range(size * DATASETS):
        _write_chat(data / f"teacher-{i:05d}.jsonl", "1 + 2", f"{i % 10} .")
    settings = Settings(dtype="float32", device="cpu")
    return lambda: score(student, data, outputs=root, settings=settings).artefact.path.glob("*.parquet")


def many_files(folder: Path, size: int) -> Run:
    """Tables of one dataset in `DATASETS` shards for each of the size, a trajectory each."""
    from rsr.api import score
    from rsr.tokens.settings import Settings

    root = _fresh(folder / f"files-{size}")
    student, data, count = tiny_student(root / "student"), root / "data", size * DATASETS
    data.mkdir()
    for i in range(count):
        _write_chat(data / f"train-{i:05d}-of-{count:05d}.jsonl", "1 + 2", f"{i % 10} .", id=f"p{i}")
    settings = Settings(dtype="float32", device="cpu")
    return lambda: score(student, data, outputs=root, settings=settings).artefact.path.glob("*.parquet")


def many_ranked(folder: Path, size: int) -> Run:
    """The order of `DATASETS` datasets for each of the size, with its bootstrap over ten problems, and the table that it reads."""
    from rsr.metrics.aggregate import SCHEMA
    from rsr.selection.ranking import rank

    root, rng = _fresh(folder / f"ranked-{size}"), np.random.default_rng(0)
    datasets = pl.DataFrame({"teacher": [f"teacher-{i:05d}" for i in range(size * DATASETS)]})
    rows = datasets.join(pl.DataFrame({"problem": [f"p{i}" for i in range(10)]}), how="cross")
    fixed = {"student": "tiny", "generation": "", "preset": "", "truncated": False, "artefact": "generated"}
    common = rows.with_columns(pl.lit(value).alias(name) for name, value in fixed.items()).with_columns(
        trajectory="problem", tokens=pl.Series(rng.integers(100, 200, len(rows)))
    )
    one, drawn = pl.lit(1.0), (pl.Series(rng.uniform(1, 2, len(rows))) for _ in range(2))
    table = pl.concat(
        common.with_columns(metric=pl.lit(metric), value=values, numerator=values, denominator=one).select(*SCHEMA)
        for metric, values in zip(("rsr", "repetition"), drawn, strict=True)
    )
    table.write_parquet(root / "trajectories.parquet")

    def run() -> Iterable[Path]:
        rank(pl.read_parquet(root / "trajectories.parquet"), resamples=10_000)
        return [root / "trajectories.parquet"]

    return run


def long_answer(folder: Path, size: int) -> Run:
    """A chat whose answer has `CHARACTERS` for each of the size, in bytes, of which 512 tokens are scored."""
    from rsr.api import score
    from rsr.tokens.settings import Settings

    root = _fresh(folder / f"answer-{size}")
    student = tiny_student(root / "student")
    _bytes().save_pretrained(student)
    _write_chat(root / "teacher.jsonl", "1 + 2", "It is 3, so.\n" * (size * CHARACTERS // 13))
    settings = Settings(dtype="float32", device="cpu", max_length=512)
    return lambda: score(student, root / "teacher.jsonl", outputs=root, settings=settings).artefact.path.glob(
        "*.parquet"
    )


def _bytes() -> Any:
    """A tokenizer of bytes, which writes the most tokens for a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw)
    fast.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return fast


def _write_chat(path: Path, question: str, answer: str, id: str = "p") -> None:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    path.write_text(json.dumps({"id": id, "messages": messages}) + "\n")


def ablation(folder: Path, size: int) -> Run:
    """Every variant of Tables 5 and 14 over the store, and what it reads."""
    from experiments.analysis.ablation import measured

    token_stores = stores(folder, size)

    def run() -> Iterable[Path]:
        measured(token_stores, Ablation(), seed=0)
        return [store.artefact.path / shard_name(i) for store in token_stores for i in range(size)]

    return run


def tables(folder: Path, size: int) -> Run:
    """Every token metric, with intervals over problems, and the tables."""
    from rsr.metrics.score_tables import tabulate

    root = _fresh(folder / f"tables-{size}")

    def run() -> Iterable[Path]:
        tabulate(stores(folder, size), root, "generated")
        return root.rglob("*")

    return run


def ranking(folder: Path, size: int) -> Run:
    """The order of the datasets with its bootstrap, and the table that it reads."""
    from rsr.selection.ranking import rank

    def run() -> Iterable[Path]:
        rank(pl.read_parquet(_trajectories(folder, size)), resamples=10_000)
        return [_trajectories(folder, size)]

    return run


def selection(folder: Path, size: int) -> Run:
    """The best correct candidate of each problem, from 33, and the table that it reads."""
    from rsr.selection.rules import CANDIDATES, Rule, choose

    content = pl.concat_str("teacher", "generation", "trajectory").hash(seed=0)

    def run() -> Iterable[Path]:
        rows = pl.read_parquet(_trajectories(folder, size)).filter(metric="rsr", preset="")
        candidates = rows.with_columns(
            group="teacher",
            content=content.cast(pl.String).str.pad_start(64, "0"),
            correct=content % 5 > 0,
            cluster=None,
            overlap=None,
        )
        choose(candidates.select(*CANDIDATES), "lower", Rule())
        return [_trajectories(folder, size)]

    return run


def report(folder: Path, size: int) -> Run:
    """The page of so many results, and the page."""
    from experiments.reports.results_page import html, markdown

    root = _fresh(folder / f"results-{size}")
    for i in range(size):
        shutil.copytree(ROOT / "results" / "correlation" / "qwen3b", root / "correlation" / f"student-{i:04d}")

    def run() -> Iterable[Path]:
        (root / "report.html").write_text(html(root))
        (root / "report.md").write_text(markdown(root))
        return root.glob("report.*")

    return run


TASKS: dict[str, Callable[[Path, int], Run]] = {
    task.__name__: task
    for task in (
        scoring,
        many_datasets,
        many_files,
        many_ranked,
        long_answer,
        ablation,
        tables,
        ranking,
        selection,
        report,
    )
}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _trajectories(folder: Path, size: int) -> Path:
    (path,) = (folder / f"tables-{size}").glob("scores/*/trajectories.parquet")
    return path


# --- measuring -------------------------------------------------------------------------------------------------------


def measured(task: str, folder: Path, size: int) -> dict[str, Any]:
    """Seconds, peak memory and disk of a task, run in a process of its own."""
    done = subprocess.run([sys.executable, __file__, task, str(folder), str(size)], check=True, stdout=subprocess.PIPE)
    print(f"{task}, size {size}: {done.stdout.decode().strip()}", file=sys.stderr, flush=True)
    return {"task": task, "size": size, **json.loads(done.stdout)}


def in_this_process(task: str, folder: Path, size: int) -> dict[str, float]:
    """Seconds on the clock and of all cores, peak memory of this process (imports and all), and megabytes of the files that
    the task names.
    """
    run = TASKS[task](folder, size)
    began, worked = time.perf_counter(), time.process_time()
    paths = run()
    seconds, cores = time.perf_counter() - began, time.process_time() - worked
    disk = sum(path.stat().st_size for path in paths if path.is_file())
    return {"seconds": seconds, "core_seconds": cores, "peak_mb": peak_mb(), "disk_mb": disk / 2**20}


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()  # Linux
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@cache
def tokens(folder: Path, size: int) -> int:
    """Response tokens in so many shards of each dataset."""
    import pyarrow.parquet as pq

    paths = [store.artefact.path / shard_name(i) for store in stores(folder) for i in range(size)]
    chats = (pq.read_table(path, columns=["chat_tokens"])["chat_tokens"].to_numpy() for path in paths)
    return sum(int(lengths.sum()) - PROMPT * len(lengths) for lengths in chats)


if __name__ == "__main__":
    print(json.dumps(in_this_process(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
