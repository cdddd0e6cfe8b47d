"""The schema of every configuration: what is not declared here is refused, by name."""

from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from eval.settings import Evaluation
from rsr.errors import InputError
from rsr.grader import Kind
from train.memory import Shape
from train.settings import Reinforcement, Training

ROOT = Path(__file__).resolve().parents[1]


def _at_least(least: float, **values: float | None) -> None:
    """Refuse a setting below its least value; null is left to its meaning."""
    for name, value in values.items():
        if value is not None and value < least:
            raise InputError(f"{name}={value} is too small: the least is {least:g}")


def _names(value: Any, setting: str) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{setting}={value} is neither a name nor a list of names")
    return names


class Source(Enum):
    """Where scores and accuracies come from."""

    published = "published"  # the paper's printed tables
    measured = "measured"  # runs of this project


class Dtype(Enum):
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


@dataclass
class Student:
    name: str = MISSING
    model: str | None = MISSING  # hub name or folder
    revision: str | None = None
    recipe: str | None = None  # how to make the model where it is no hub name or folder (experiments.students)
    brings: dict[str, str] = field(default_factory=dict)  # options of other groups, where none is given
    template: str | None = None  # chat template: a name, a .jinja file, or null for the tokenizer's own
    template_variables: dict[str, Any] = field(default_factory=dict)
    dtype: Dtype = Dtype.bfloat16  # in which it is scored and evaluated
    source: Source = Source.measured
    shape: Shape | None = None  # as in its config.json, so that a plan needs no hub
    training: Training = field(default_factory=Training)


@dataclass
class Teacher:
    name: str = MISSING
    model: str = MISSING
    folder: str | None = None  # pattern of its folder's name in the data, any case
    params_billion: float | None = None
    performance: float | None = None  # share of problems solved


@dataclass
class Teachers:
    name: str = MISSING
    data: str | None = MISSING  # a file, a folder or hub:OWNER/NAME
    recipe: str | None = None  # how to make the data where they are not given (experiments.datasets)
    caveat: str | None = None  # what has to be read beside every result
    answer: str | None = None  # regular expression of a response's final answer; null: the last \boxed{}
    grader: Kind = Kind.mathematics  # what answers are
    generations: list[str] = field(default_factory=list)  # [] takes all that are found
    teachers: list[Teacher] = field(default_factory=list)  # [] takes all that are found
    selections: list[str] = field(default_factory=list)  # datasets selected from all of them (experiments.selections)
    fewer: list[str] = field(default_factory=list)  # the teachers of a selection from fewer teachers


def from_print(student: Student, teachers: Teachers) -> bool:
    """Whether a comparison reads the paper's numbers: of a paper student and a teacher table, not of a user's own."""
    return student.source is Source.published and bool(teachers.teachers)


@dataclass
class Paths:
    """Where things lie; relative paths start at the working directory."""

    published: Path = ROOT / "results" / "published"
    results: Path = ROOT / "results"
    outputs: Path = ROOT / "outputs"


class HeadDtype(Enum):
    model = "model"
    float32 = "float32"


class Engine(Enum):
    """What runs the student's forward passes."""

    transformers = "transformers"
    vllm = "vllm"


class OnError(Enum):
    error = "error"
    skip = "skip"


OnFailure = Enum("OnFailure", {"continue": "continue", "stop": "stop"})  # "continue" is no name in a class


@dataclass
class Study:
    """How the cells of a study are run."""

    processes: int | None = None  # cells at a time; null: one per core, or one where there is a GPU
    worker: int = 0  # number of this worker among those that share a study; results are those of the first
    on_error: OnFailure = OnFailure["continue"]  # after a cell that failed
    floor: float = 5.0  # percent; students below it have learned nothing that an order could be made of
    verified: float = 95.0  # percent; teachers below it write wrong solutions too often to be compared by form alone

    def __post_init__(self) -> None:
        _at_least(1, processes=self.processes)
        _at_least(0, worker=self.worker)


@dataclass
class ScoringConfig:
    backend: Engine = (
        Engine.transformers
    )  # vllm has an extra of its own, another tie rule and no entropy (docs/cluster.md)
    dtype: Dtype | None = None  # null: the student's
    head_dtype: HeadDtype = HeadDtype.model  # float32: the head in float32, which breaks ties of bfloat16
    max_length: int | None = None  # tokens; null: 32,768, or the model's positions where it has fewer
    beyond_positions: bool = False  # allow a max_length beyond the model's positions
    attention: str = "sdpa"
    device: str | None = None  # null: a GPU where there is one
    token_budget: int = 2048  # padded tokens per forward pass
    trust_remote_code: bool = False
    on_error: OnError = OnError.error  # of a malformed record or one that cannot be rendered verbatim
    limit: int | None = None  # the first problems of each dataset only

    def __post_init__(self) -> None:
        _at_least(1, limit=self.limit, token_budget=self.token_budget, max_length=self.max_length)


@dataclass
class Bootstrap:
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(100, resamples=self.resamples)
        _at_least(0, seed=self.seed)


class Wandb(Enum):
    off = "off"
    online = "online"
    offline = "offline"


@dataclass
class Tracking:
    """Weights & Biases."""

    wandb: Wandb = Wandb.off
    project: str = "rsr"


@dataclass
class ScoreConfig:
    student: Student = field(default_factory=Student)
    teachers: Teachers = field(default_factory=Teachers)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    tracking: Tracking = field(default_factory=Tracking)
    paths: Paths = field(default_factory=Paths)


class Splitter(Enum):
    sentence = "sentence"
    newline = "newline"
    blank_line = "blank_line"


class LossMask(Enum):
    response = "response"
    response_eot = "response+eot"  # with the end-of-turn token


@dataclass
class LocalConfig:
    """Mean local surprisal (rsr.metrics.local)."""

    window: int = 4  # preceding steps that the student remembers
    splitter: Splitter = Splitter.sentence
    prompt: bool = True  # whether it remembers the prompt

    def __post_init__(self) -> None:
        _at_least(0, window=self.window)


@dataclass
class GradientConfig:
    """G-Norm and GRACE (rsr.gradients)."""

    parameters: str = "all"  # or lora_b, or a pattern of names such as *.mlp.*
    dimensions: int | None = None  # null: 512, or fewer where a dataset has too few trajectories to fill them
    seed: int = 0
    mask: LossMask = LossMask.response
    checkpointing: bool = False  # compute layers anew on the way back: less memory, a third more time

    def __post_init__(self) -> None:
        _at_least(1, dimensions=self.dimensions)


@dataclass
class JudgeConfig:
    """LLM-judged quality (rsr.metrics.judge); the key comes from the environment alone."""

    endpoint: str | None = None  # base URL of an OpenAI-compatible server
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    template: str | None = None  # file of a prompt; null takes the project's own
    json_schema: bool = True
    extra: dict[str, Any] = field(default_factory=dict)  # into the body of a request
    max_tokens: int = 1024
    max_characters: int | None = None  # of a solution; a longer one loses its middle, with a mark
    attempts: int = 4
    timeout: float = 300.0  # seconds
    concurrency: int = 8

    def __post_init__(self) -> None:
        _at_least(1, max_tokens=self.max_tokens, attempts=self.attempts, concurrency=self.concurrency)
        _at_least(100, max_characters=self.max_characters)


@dataclass
class InfluenceConfig:
    """Influence score (rsr.metrics.influence)."""

    reference: str | None = None  # folder of the student fine-tuned on the random selection
    queries: str | None = None  # file of right solutions to problems that are held out, never a benchmark
    modules: str = "*.mlp.*"  # pattern of linear modules
    examples: int = 512  # trajectories that the curvature is fitted to
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(1, examples=self.examples)


@dataclass
class MetricsConfig(ScoreConfig):
    metrics: Any = "tokens"  # names or groups: all, tokens, text, steps, gradients, endpoint, influence, grad
    local: LocalConfig = field(default_factory=LocalConfig)
    gradients: GradientConfig = field(default_factory=GradientConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)

    @property
    def names(self) -> list[str]:
        """Names of metrics or groups."""
        return _names(self.metrics, "metrics")


@dataclass
class EvaluateConfig(MetricsConfig):
    evaluation: Evaluation = field(default_factory=Evaluation)


@dataclass
class Assumptions:
    """Behind the plan of a study; nothing of it is measured. The device is an H200 by its data sheet."""

    flops: float = 9.9e14  # per second and device, dense bfloat16
    utilisation: float = 0.4  # share of them that scoring and training reach
    bandwidth: float = 4.8e12  # bytes per second of a device's memory
    step: float = 0.03  # seconds that a step of generation takes at least (transformers, in Python)
    memory: float = 141e9  # bytes of a device
    devices: int = 8  # that the training of one student is spread over, where one does not hold it
    price: float = 3.0  # per GPU-hour, in whatever currency

    def __post_init__(self) -> None:
        _at_least(1, **{"plan.devices": self.devices, "plan.flops": self.flops, "plan.bandwidth": self.bandwidth})
        _at_least(0, **{"plan.price": self.price, "plan.step": self.step})
        if not 0 < self.utilisation <= 1:
            raise InputError(f"plan.utilisation={self.utilisation} is no share: it lies above 0 and up to 1")


@dataclass
class StudyConfig(EvaluateConfig):
    plan: Assumptions = field(default_factory=Assumptions)
    run: bool = False  # go ahead with a measured study of which only the plan would be shown
    study: Study = field(default_factory=Study)

    def __post_init__(self) -> None:
        if self.study.worker:
            self.paths = replace(self.paths, results=self.paths.outputs / "workers" / str(self.study.worker))


@dataclass
class CorrelationConfig(StudyConfig):
    source: Source = MISSING
    metric: Any = MISSING  # a name or a list of names

    @property
    def compared(self) -> list[str]:
        """Names of metrics or groups."""
        return _names(self.metric, "metric")


class Setting(Enum):
    """What a selection is made from (experiments.selections)."""

    all = "all"  # every generation of every teacher
    one_generation = "one_generation"  # the first of every teacher
    fewer_teachers = "fewer_teachers"  # every generation of `Teachers.fewer`
    correct_first = "correct_first"  # as all, with right answers before others


METHODS = ["random", "rsr", "avg_surprisal", "g_norm", "avg_token_length", "rule_based_quality", "llm_judged_quality"]


@dataclass
class Selection:
    """Training sets selected problem by problem."""

    settings: list[Setting] = field(default_factory=lambda: [Setting.all, Setting.one_generation])
    methods: list[str] = field(default_factory=lambda: list(METHODS))  # random, none (all candidates), or metrics
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of training

    def __post_init__(self) -> None:
        if not (self.settings and self.methods and self.seeds):
            raise InputError("selection needs at least one of settings, methods and seeds each")


@dataclass
class SelectionConfig(CorrelationConfig):
    selection: Selection = field(default_factory=Selection)


@dataclass
class Validation:
    """A check of a score on some teachers before all are trained on."""

    metric: str = "rsr"
    teachers: list[str] = field(default_factory=list)  # [] takes `count`, spread over the order of their scores
    count: int = 5
    seeds: list[int] = field(default_factory=lambda: [0])  # of training

    def __post_init__(self) -> None:
        _at_least(3, count=self.count)


@dataclass
class ValidationConfig(StudyConfig):
    validation: Validation = field(default_factory=Validation)


@dataclass
class Within:
    """Choices among one teacher's own trajectories."""

    metric: str = "rsr"
    teachers: list[str] = field(default_factory=list)  # [] takes all
    shares: list[float] = field(default_factory=lambda: [0.25, 0.5])  # of the problems
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of training


@dataclass
class WithinConfig(StudyConfig):
    within: Within = field(default_factory=Within)


@dataclass
class BeyondSftConfig(CorrelationConfig):
    reinforcement: Reinforcement = field(default_factory=Reinforcement)


@dataclass
class SanityConfig(ScoreConfig):
    families: dict[str, list[str]] = MISSING  # family -> patterns of names


@dataclass
class TablesConfig:
    teachers: Teachers = field(default_factory=Teachers)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    paths: Paths = field(default_factory=Paths)


@dataclass
class RobustnessConfig(TablesConfig):
    student: Student = field(default_factory=Student)


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
    paths: Paths = field(default_factory=Paths)

    def __post_init__(self) -> None:
        _at_least(2, vocabulary=self.vocabulary)
        _at_least(1, support=self.support, tokens=self.tokens, length=self.length)
        _at_least(0, seed=self.seed)
        _at_least(0.01, zipf=self.zipf)
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
        _at_least(1, draws=self.draws)
        for r_max in self.r_max:
            _at_least(1, r_max=r_max)
        for size in self.sample_size:
            _at_least(1, sample_size=size)
        for share in self.filter_share:
            if not 0 < share <= 1:
                raise InputError(f"filter_share={share} is no share: it lies above 0 and up to 1")


@dataclass
class AblationConfig(ScoreConfig):
    ablation: Ablation = field(default_factory=Ablation)


@dataclass
class CostConfig:
    paths: Paths = field(default_factory=Paths)


@dataclass
class CaseStudyConfig(ScoreConfig):
    problem: int = 0  # number of the problem in the first teacher's dataset
    tokens: int = 400  # of each trajectory that are shown
    r_max: int = 100

    def __post_init__(self) -> None:
        _at_least(1, tokens=self.tokens, r_max=self.r_max)


@dataclass
class ReportConfig:
    paths: Paths = field(default_factory=Paths)


@dataclass
class MismatchConfig(CorrelationConfig):
    others: list[str] = field(default_factory=list)  # students beside the configured one, where they are measured
    dtypes: list[Dtype] = field(default_factory=lambda: list(Dtype))


@dataclass
class FailuresConfig:
    student: Student = field(default_factory=Student)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    examples: int = 100  # of each kind
    appended: list[int] = field(default_factory=lambda: [8, 16, 32, 64])  # tokens
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    paths: Paths = field(default_factory=Paths)

    def __post_init__(self) -> None:
        _at_least(2, examples=self.examples)
        for tokens in self.appended:
            _at_least(1, appended=tokens)


@dataclass
class LengthConfig(StudyConfig):
    prefixes: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])  # tokens
    mark: str = "</think>"  # regular expression that parts the answer from what stands before it
    bins: int = 4  # by length, of equal size, that the trajectories of each dataset are divided into

    def __post_init__(self) -> None:
        _at_least(2, bins=self.bins)
        for tokens in self.prefixes:
            _at_least(1, prefixes=tokens)
