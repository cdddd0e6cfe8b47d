"""Nothing heavy is imported before it is needed; what is known is not asked again, and never believed of anything else."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.settings import Evaluation
from experiments.app import memo
from experiments.app.shared_configs import (
    ROOT,
    CorrelationConfig,
    Dtype,
    LocalConfig,
    PathsConfig,
    ScoringConfig,
    StudentConfig,
    Study,
    TeachersConfig,
)
from experiments.study.study import score_settings

HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "lm_eval", "scipy", "matplotlib", "sympy"}
COMPOSE = """
import sys
from importlib import import_module
from pathlib import Path
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
import rsr, rsr.cli
for path in sorted(Path("configs").glob("*.yaml")):
    import_module(f"experiments.{path.stem}")
    wants_student = "student: ???" in path.read_text()
    with initialize_config_dir(str(Path("configs").resolve()), version_base="1.3"):
        OmegaConf.to_object(compose(path.stem, ["student=smollm2"] if wants_student else []))
print(*sys.modules)
"""


def imported(*command: str) -> set[str]:
    """Top-level modules that a command imports, in its own process and in those it starts."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return of_import_times(done.stderr)


def of_import_times(errors: str) -> set[str]:
    return {
        line.rpartition("|")[2].strip().split(".")[0] for line in errors.splitlines() if line.startswith("import time:")
    }


def test_help_and_composing_import_nothing_heavy():
    assert "polars" in (of_help := imported(sys.executable, "experiments/correlation.py", "--help"))
    assert not of_help & HEAVY
    assert not imported(sys.executable, "-m", "rsr", "--help") & HEAVY
    assert "hydra" in (of_all := imported(sys.executable, "-c", COMPOSE))
    assert not of_all & HEAVY


def test_an_answer_is_found_once_and_by_everything_it_follows_from(tmp_path, monkeypatch):
    asked = []

    def find():
        asked.append(1)
        return {"answer": len(asked)}

    def ask(of):
        return memo.memoised(tmp_path, "question", of, find)["answer"]

    assert [ask({"a": 1}), ask({"a": 1}), ask({"a": 2}), ask({"a": 1})] == [1, 1, 2, 1]
    monkeypatch.setattr(memo, "_source", lambda: "another source")
    assert [ask({"a": 1}), ask({"a": 1})] == [3, 3]
    monkeypatch.setattr(memo, "_versions", lambda: {"torch": "another"})
    assert ask({"a": 1}) == 4
    monkeypatch.undo()
    assert ask({"a": 1}) == 1
    for path in tmp_path.rglob("*.json"):
        path.write_text("{")
    assert ask({"a": 1}) == 5  # what is damaged is asked anew


def test_a_model_folder_is_known_by_its_content(tmp_path):
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        (tmp_path / name).write_text(name)
    before = memo.folder_content(str(tmp_path))
    stat = (tmp_path / "tokenizer.json").stat()
    (tmp_path / "tokenizer.json").write_text("tokenizer.jsoN")  # of the same size and time
    os.utime(tmp_path / "tokenizer.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert memo.folder_content(str(tmp_path)) != before
    (tmp_path / "tokenizer.json").write_text("tokenizer.json")
    assert memo.folder_content(str(tmp_path)) == before
    (tmp_path / "config.json").rename(tmp_path / "Config.json")
    assert memo.folder_content(str(tmp_path)) != before
    assert memo.folder_content("owner/name") is None


def test_scores_are_known_by_every_setting_but_what_becomes_of_them():
    student = StudentConfig(name="s", model="m")
    config = CorrelationConfig(student=student, teachers=TeachersConfig(name="t", data="d"), metric="rsr")
    before = score_settings(config)
    assert score_settings(replace(config, metric="all", run=True)) == before
    later: dict[str, Any] = {
        "study": Study(processes=1),
        "evaluation": Evaluation(samples=2),
        "paths": PathsConfig(outputs=Path("elsewhere")),
    }
    assert all(score_settings(replace(config, **{name: value})) == before for name, value in later.items())
    changes: list[dict[str, Any]] = [
        {"student": replace(student, dtype=Dtype.float32)},
        {"scoring": ScoringConfig(max_length=100)},
        {"metrics": ["rsr"]},
        {"local": LocalConfig(window=2)},
        {"teachers": TeachersConfig(name="t", data="d", answer="x")},
    ]
    keys = [score_settings(replace(config, **change)) for change in changes]
    assert all(key != before for key in keys)
