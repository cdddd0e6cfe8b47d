"""The schema of every configuration: what is not declared here is refused, by name."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

ROOT = Path(__file__).resolve().parents[1]


class Source(Enum):
    """Where scores and accuracies come from."""

    published = "published"  # the paper's printed tables


@dataclass
class Training:
    """Supervised fine-tuning (Table 9)."""

    learning_rate: float = MISSING
    batch_size: int = MISSING
    epochs: int = MISSING
    max_length: int = MISSING  # tokens


@dataclass
class Student:
    name: str = MISSING
    model: str | None = MISSING  # hub name or folder
    source: Source = Source.published
    training: Training | None = MISSING


@dataclass
class Teacher:
    name: str = MISSING
    model: str = MISSING
    params_billion: float | None = None
    performance: float | None = None  # share of problems solved


@dataclass
class Teachers:
    name: str = MISSING
    generations: list[str] = MISSING
    teachers: list[Teacher] = MISSING


@dataclass
class Paths:
    """Where things lie; relative paths start at the working directory."""

    published: Path = ROOT / "results" / "published"
    results: Path = ROOT / "results"


@dataclass
class Bootstrap:
    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass
class CorrelationConfig:
    student: Student = field(default_factory=Student)
    teachers: Teachers = field(default_factory=Teachers)
    source: Source = MISSING
    metric: Any = MISSING  # a name or a list of names
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    paths: Paths = field(default_factory=Paths)
