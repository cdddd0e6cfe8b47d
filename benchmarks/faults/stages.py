"""A tiny student, its data, and the stages that the battery runs: each makes or finds an artefact, and gives its content."""

import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.tasks import tiny_student
from rsr.data import trajectories
from rsr.data.trajectories import Dataset


@dataclass(frozen=True)
class World:
    """What the stages work on.

    Attributes:
        folder: where the student lies.
    """

    folder: Path

    @cached_property
    def student(self) -> Path:
        return tiny_student(self.folder / "student")

    @cached_property
    def data(self) -> Dataset:
        """Chats in the words of the miniature: two shards of them."""
        from experiments.miniature import words

        rng = random.Random(0)

        def chat(i: int) -> dict[str, Any]:
            messages = [
                {"role": "user", "content": " ".join(rng.choices(words.OBJECTS, k=4))},
                {"role": "assistant", "content": " ".join(rng.choices(words.OBJECTS, k=200))},
            ]
            return {"id": f"p{i}", "messages": messages}

        return trajectories.parse(((f"record {i}", chat(i)) for i in range(90)), "teacher", "")

    @cached_property
    def scorer(self) -> Any:
        from rsr.student import student as students
        from rsr.tokens.engine import Scorer
        from rsr.tokens.settings import Scoring

        return Scorer(students.load(self.student, dtype="float32", device="cpu"), Scoring())

    def tokens(self, root: Path) -> str:
        from rsr.tokens.score_dataset import score_dataset

        def plain(shard: Any) -> list[Any]:
            statistics = [getattr(shard.tokens, name).tolist() for name in ("rank", "surprisal", "entropy", "offsets")]
            return [shard.ids, shard.problems, shard.chat_tokens, shard.truncated, shard.reasons, *statistics]

        return repr([plain(shard) for shard in score_dataset(self.scorer, self.data, root)])

    def scores(self, root: Path) -> str:
        from rsr.metrics.score_tables import tabulate
        from rsr.tokens.score_dataset import score_dataset

        made = tabulate([score_dataset(self.scorer, self.data, root)], root, "tiny")
        return made.trajectories.write_json() + made.datasets.write_json()

    def text(self, root: Path) -> str:
        from rsr.features.extractor import extract_features
        from rsr.features.text import TextCounts

        return extract_features(TextCounts(), self.data, root, "tiny").rows.write_json()

    def verified(self, root: Path) -> str:
        from experiments.stages import verification
        from rsr.grading.grader import Kind

        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": r"It is \boxed{1}."}]
        records = [(f"record {i}", {"id": f"p{i}", "messages": messages, "answer": str(i % 3)}) for i in range(9)]
        data = trajectories.parse(iter(records), "teacher", "")
        return verification.verified([data], None, Kind.mathematics, root).write_json()

    def grades(self, root: Path) -> str:
        """Samples as an evaluation draws them, and their grades."""
        from eval import performance, samples
        from rsr.store.artefacts import find_or_begin
        from rsr.store.parquet import read_parquet, write_parquet

        drawn = find_or_begin(root, samples.STAGE, "tiny-own", {"stage": samples.STAGE, "benchmark": {"name": "own"}})
        if drawn.manifest is None:
            same = {"sample": 0, "gold": "1", "prompt_tokens": 1, "tokens": [1, 2], "finish_reason": "stop"}
            rows = [same | {"problem": f"p{i}", "text": f"\\boxed{{{i % 3}}}"} for i in range(60)]
            write_parquet(pl.DataFrame(rows, schema=samples.SCHEMA), drawn.path / samples.SAMPLES)
            drawn = drawn.complete(answer_pattern=None, seconds=1.0)
        graded = performance.grade(drawn, root)
        return samples.read(drawn).write_json() + read_parquet(graded, performance.GRADES).write_json()

    def trained(self, root: Path) -> str:
        from train.base import Base
        from train.settings import Training
        from train.sft import HISTORY, MODEL, fine_tune

        settings = Training(batch_size=32, micro_batch=16, epochs=1, max_length=512, checkpoints=2)
        made = fine_tune(Base("tiny", str(self.student)), self.data, settings, root)
        files = [made.checked(HISTORY), *sorted(path for path in made.checked(MODEL).rglob("*") if path.is_file())]
        return repr([(path.name, path.read_bytes()) for path in files])

    def made_data(self, root: Path) -> str:
        from experiments.app.shared_configs import PathsConfig, TeachersConfig
        from experiments.stages import teacher_data

        folder = teacher_data.made(TeachersConfig(name="miniature", recipe="miniature"), PathsConfig(outputs=root))
        return repr([(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.jsonl"))])

    def known(self, root: Path) -> str:
        from experiments.app import memo

        return json.dumps(memo.memoised(root, "answer", {"question": 1}, lambda: {"numbers": list(range(99))}))
