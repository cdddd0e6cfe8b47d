"""Schemas of the configurations of single experiments; what they share is in experiments/app/shared_configs.py."""

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from experiments.app.shared_configs import (
    BootstrapConfig,
    CorrelationConfig,
    Dtype,
    PathsConfig,
    ScoreConfig,
    ScoringConfig,
    StudentConfig,
    StudyConfig,
    TeachersConfig,
    at_least,
    at_most,
    some,
)
from rsr.errors import InputError
from train.settings import Reinforcement


class SelectionSetting(Enum):
    """What a selection is made from (experiments.stages.training_sets)."""

    all = "all"  # every generation of every teacher
    one_generation = "one_generation"  # the first of every teacher
    fewer_teachers = "fewer_teachers"  # every generation of `TeachersConfig.fewer`
    correct_first = "correct_first"  # as all, with right answers before others


class Matching(Enum):
    """What is equal in arms that are cut to one size (rsr.selection.matching)."""

    tokens = "tokens"  # of responses, all together
    rows = "rows"
    teachers = "teachers"  # rows of each teacher
    tokens_and_teachers = "tokens_and_teachers"


METHODS = ["random", "rsr", "avg_surprisal", "g_norm", "avg_token_length", "rule_based_quality", "llm_judged_quality"]


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise InputError(f"{name}={share} is no share: it lies above 0 and up to 1")


@dataclass
class SelectionSettings:
    """Training sets selected problem by problem."""

    settings: list[SelectionSetting] = field(
        default_factory=lambda: [SelectionSetting.all, SelectionSetting.one_generation]
    )
    methods: list[str] = field(default_factory=lambda: list(METHODS))  # random, none (all candidates), lark, or metrics
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of training
    match: Matching | None = None  # besides, what the methods select is cut to one size and trained on

    def __post_init__(self) -> None:
        some(settings=self.settings, methods=self.methods, seeds=self.seeds)


@dataclass
class SelectionConfig(CorrelationConfig):
    selection: SelectionSettings = field(default_factory=SelectionSettings)


@dataclass
class Validation:
    """A check of a score on some teachers before all are trained on."""

    metric: str = "rsr"
    teachers: list[str] = field(default_factory=list)  # [] takes `count`, spread over the order of their scores
    count: int = 5
    seeds: list[int] = field(default_factory=lambda: [0])  # of training

    def __post_init__(self) -> None:
        at_least(3, count=self.count)
        some(seeds=self.seeds)


@dataclass
class ValidationConfig(StudyConfig):
    validation: Validation = field(default_factory=Validation)


@dataclass
class Within:
    """Choices among one teacher's own trajectories."""

    metrics: list[str] = field(default_factory=lambda: ["rsr"])  # each against chance, and against the first
    teachers: list[str] = field(default_factory=list)  # [] takes all
    shares: list[float] = field(default_factory=lambda: [0.25, 0.5])  # of the problems
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of training

    def __post_init__(self) -> None:
        some(metrics=self.metrics, shares=self.shares, seeds=self.seeds)
        for share in self.shares:
            _check_share("shares", share)


@dataclass
class WithinConfig(StudyConfig):
    within: Within = field(default_factory=Within)


@dataclass
class Calibrated:
    """The comparison of calibrated RSR with other scores."""

    seeds: list[int] = field(default_factory=lambda: [0])  # of training

    def __post_init__(self) -> None:
        some(seeds=self.seeds)


@dataclass
class CalibratedConfig(StudyConfig):
    calibrated: Calibrated = field(default_factory=Calibrated)


@dataclass
class BeyondSftConfig(CorrelationConfig):
    reinforcement: Reinforcement = field(default_factory=Reinforcement)


@dataclass
class SanityConfig(ScoreConfig):
    families: dict[str, list[str]] = MISSING  # family -> patterns of names


@dataclass
class TablesConfig:
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class RobustnessConfig(TablesConfig):
    student: StudentConfig = field(default_factory=StudentConfig)


@dataclass
class SimulationConfig:
    vocabulary: int = 50
    zipf: float = 2.3
    share: float = 0.2  # of the minor habit B in the mixture
    shift: int = 25  # B's order is A's, rolled by this many places
    support: int = 15  # C is uniform over the first tokens of A
    tokens: int = 10_000  # of each trajectory of Table 3
    length: int = 200  # tokens of a trajectory in the grid
    seed: int = 0
    paths: PathsConfig = field(default_factory=PathsConfig)

    def __post_init__(self) -> None:
        at_least(2, vocabulary=self.vocabulary)
        at_most(10_000, vocabulary=self.vocabulary)
        at_most(1_000_000, tokens=self.tokens, length=self.length)
        at_most(100, zipf=self.zipf)
        at_least(1, support=self.support, tokens=self.tokens, length=self.length)
        at_least(0, seed=self.seed)
        at_least(0.01, zipf=self.zipf)
        if not 0 < self.share < 1:
            raise InputError(f"share={self.share} is no share of a mixture: it lies between 0 and 1")
        if self.support > self.vocabulary:
            raise InputError(f"support={self.support} is more than the vocabulary of {self.vocabulary}")


@dataclass
class Ablation:
    """Values that each parameter takes while the others keep their defaults."""

    r_max: list[int | None] = field(default_factory=lambda: [10, 50, 100, 500, None])
    rank_power: list[float] = field(default_factory=lambda: [0.9, 0.95, 1.05, 1.1])
    surprisal_power: list[float] = field(default_factory=lambda: [0.9, 0.95, 1.05, 1.1])
    filter_share: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5])
    sample_size: list[int] = field(default_factory=lambda: [10, 25, 50, 100, 200])
    draws: int = 100  # of each sample size

    def __post_init__(self) -> None:
        at_least(1, draws=self.draws)
        for r_max in self.r_max:
            at_least(1, r_max=r_max)
        for size in self.sample_size:
            at_least(1, sample_size=size)
        for share in self.filter_share:
            _check_share("filter_share", share)


@dataclass
class AblationConfig(ScoreConfig):
    ablation: Ablation = field(default_factory=Ablation)


@dataclass
class CostConfig:
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class CaseStudyConfig(ScoreConfig):
    problem: int = 0  # number of the problem in the first teacher's dataset
    tokens: int = 400  # of each trajectory that are shown
    r_max: int = 100

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens, r_max=self.r_max)


@dataclass
class ReportConfig:
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class MismatchConfig(CorrelationConfig):
    others: list[str] = field(default_factory=list)  # students beside the configured one, where they are measured
    dtypes: list[Dtype] = field(default_factory=lambda: [dtype for dtype in Dtype if dtype is not Dtype.auto])

    def __post_init__(self) -> None:
        some(dtypes=self.dtypes)


@dataclass
class FailuresConfig:
    student: StudentConfig = field(default_factory=StudentConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    examples: int = 100  # of each kind
    appended: list[int] = field(default_factory=lambda: [8, 16, 32, 64])  # tokens
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

    def __post_init__(self) -> None:
        at_least(2, examples=self.examples)
        some(appended=self.appended)
        for tokens in self.appended:
            at_least(1, appended=tokens)


@dataclass
class LengthConfig(StudyConfig):
    prefixes: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])  # tokens
    mark: str = "</think>"  # regular expression that parts the answer from what stands before it
    bins: int = 4  # by length, of equal size, that the trajectories of each dataset are divided into

    def __post_init__(self) -> None:
        at_least(2, bins=self.bins)
        some(prefixes=self.prefixes)
        for tokens in self.prefixes:
            at_least(1, prefixes=tokens)
