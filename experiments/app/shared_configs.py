"""Schemas of configurations, those that entry points share: what is not declared is refused, by name.

What belongs to one experiment alone is in experiments/app/command_configs.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from math import inf
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from eval.settings import Evaluation
from rsr.errors import InputError, hides_key
from rsr.grading.grader import Kind
from rsr.tokens.settings import Settings
from train.memory import Shape
from train.settings import Training

DEFAULTS = Settings()  # of loading and scoring
ROOT = Path(__file__).resolve().parents[2]


def at_least(least: float, **values: float | None) -> None:
    """Refuse a setting below its least value; null is left to its meaning."""
    for name, value in values.items():
        if value is not None and value < least:
            raise InputError(f"{name}={value} is too small: the least is {least:g}")


def at_most(most: float, **values: float | None) -> None:
    """Refuse a setting above what a machine holds."""
    for name, value in values.items():
        if value is not None and value > most:
            raise InputError(f"{name}={value} is too large: the most is {most:,}")


def some(**values: Sequence[Any]) -> None:
    """Refuse an empty list where nothing would be left to do."""
    for name, value in values.items():
        if not value:
            raise InputError(f"{name}={value} is empty: it needs one value at least")


def refuse_senseless(settings: Any, name: str = "") -> None:
    """Refuse what no number of any setting may be: below 0, not finite, or whole and beyond 32 bits.

    What is passed on to a template or a server, a mapping, is left to them.

    Raises:
        InputError: the name of the first.
    """
    if is_dataclass(settings):
        for setting in fields(settings):
            refuse_senseless(getattr(settings, setting.name), f"{name}.{setting.name}".removeprefix("."))
    elif isinstance(settings, list):
        for value in settings:
            refuse_senseless(value, name)
    elif isinstance(settings, int | float) and not 0 <= settings < (2**32 if isinstance(settings, int) else inf):
        raise InputError(
            f"{name}={settings} is out of range: numbers here are finite, from 0, and whole ones below 2**32"
        )


def refuse_hidden(setting: Any, name: str = "") -> None:
    """Refuse a key that a record hid: what is repeated would take its stars for the key.

    Raises:
        InputError: the name of the first setting.
    """
    if isinstance(setting, dict):
        for key, value in setting.items():
            refuse_hidden(value, f"{name}.{key}".removeprefix("."))
    elif isinstance(setting, list):
        for value in setting:
            refuse_hidden(value, name)
    elif isinstance(setting, str) and hides_key(setting):
        raise InputError(f"{name}: its key is hidden, as records have it: give it anew, {name}=...")


def _names(value: Any, setting: str) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{setting}={value} is neither a name nor a list of names")
    return names


class ResultSource(Enum):
    """Where scores and accuracies come from."""

    published = "published"  # the paper's printed tables
    measured = "measured"  # runs of this project


class Dtype(Enum):
    auto = "auto"  # what the device computes in hardware
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


class Rendering(Enum):
    """Of chats of several turns (rsr.student.settings.Loading)."""

    whole = "whole"
    turn = "turn"


class BoundaryTokens(Enum):
    exclude = "exclude"
    include = "include"


@dataclass
class StudentConfig:
    name: str = MISSING
    model: str | None = MISSING  # hub name or folder
    revision: str | None = None
    recipe: str | None = None  # where the model is no hub name or folder: how it is had (experiments.stages.students)
    brings: dict[str, str] = field(default_factory=dict)  # options of other groups, where none is given
    template: str | None = None  # chat template: a name, a .jinja file, or null for the tokenizer's own
    template_variables: dict[str, Any] = field(default_factory=dict)
    rendering: Rendering = Rendering.whole  # of chats of several turns (docs/agent_traces.md)
    boundary_tokens: BoundaryTokens = BoundaryTokens.exclude  # that hold text of the template as well
    dtype: Dtype = Dtype[DEFAULTS.dtype]  # in which it is scored and evaluated
    source: ResultSource = ResultSource.measured
    released: str | None = None  # pattern of its file's name in selected_by_rsr/ beside the paper's data, any case
    shape: Shape | None = None  # as in its config.json, so that a plan needs no hub
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if self.model:
            from rsr.student.pretrained import check

            check(self.model)  # a folder that is no model is refused before anything starts


@dataclass
class TeacherConfig:
    name: str = MISSING
    model: str = MISSING
    folder: str | None = None  # pattern of its folder's name in the data, any case
    params_billion: float | None = None
    performance: float | None = None  # share of problems solved


@dataclass
class TeachersConfig:
    name: str = MISSING
    data: str | None = MISSING  # a file, a folder or hub:OWNER/NAME[/PART][@REVISION]
    fields: dict[str, str] = field(
        default_factory=dict
    )  # names of fields in the records, by ours: {"correct": "is_right"}
    file: str = "{generation}"  # pattern of the name of a generation's file, without its ending
    recipe: str | None = None  # how to make the data where they are not given (experiments.stages.teacher_data)
    caveat: str | None = None  # what has to be read beside every result
    answer: str | None = None  # regular expression of a response's final answer; null: the last \boxed{}
    grader: Kind = Kind.mathematics  # what answers are
    generations: list[str] = field(default_factory=list)  # [] takes all that are found
    teachers: list[TeacherConfig] = field(default_factory=list)  # [] takes all that are found
    selections: list[str] = field(
        default_factory=list
    )  # datasets selected from all of them (experiments.stages.training_sets)
    fewer: list[str] = field(default_factory=list)  # the teachers of a selection from fewer teachers


def reads_published(source: ResultSource, teachers: TeachersConfig) -> bool:
    """Whether a comparison reads the paper's published numbers: they are of a teacher table, never of a user's own data."""
    return source is ResultSource.published and bool(teachers.teachers)


@dataclass
class PathsConfig:
    """Where things lie; relative paths start at the working directory."""

    published: Path = ROOT / "results" / "published"
    results: Path = ROOT / "results"  # of a user's own student or data outputs/results, unless it is given
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


class StudyExecutor(Enum):
    """What runs the cells of a study."""

    local = "local"  # processes of this machine
    ray = "ray"  # a Ray cluster (docs/cluster.md)


@dataclass
class StageNumbers:
    """A number for one cell of each stage; null is the default."""

    score: float | None = None
    train: float | None = None
    evaluate: float | None = None
    reinforced: float | None = None


@dataclass
class Study:
    """How the cells of a study are run."""

    executor: StudyExecutor = StudyExecutor.local
    processes: int | None = None  # cells at a time of local; null: one per core, or one where there is a GPU
    address: str = "auto"  # of ray: host:port; auto: the cluster of this machine; local: one that ends with the command
    num_cpus: StageNumbers = field(default_factory=StageNumbers)  # of ray; null: 1
    num_gpus: StageNumbers = field(default_factory=StageNumbers)  # of ray; null: 1 where the cluster has any
    on_error: OnFailure = OnFailure["continue"]  # after a cell that failed
    floor: float = 5.0  # percent; students below it have learned nothing that an order could be made of
    verified: float = 95.0  # percent; teachers below it write wrong solutions too often to be compared by form alone

    def __post_init__(self) -> None:
        at_least(1, processes=self.processes)


@dataclass
class ScoringConfig:
    backend: Engine = (
        Engine.transformers
    )  # vllm has an extra of its own, another tie rule and no entropy (docs/cluster.md)
    dtype: Dtype | None = None  # null: the student's
    head_dtype: HeadDtype = HeadDtype[DEFAULTS.head_dtype]  # float32: the head alone, which breaks ties of bfloat16
    expectations: bool = DEFAULTS.expectations  # keep the expected clipped rank too, which calibrated_rsr needs
    max_length: int | None = None  # tokens; null: 32,768, or the model's positions where it has fewer
    beyond_positions: bool = False  # allow a max_length beyond the model's positions
    attention: str | None = DEFAULTS.attention
    device: str | None = None  # null: a GPU where there is one; auto: weights are spread over GPUs, memory and disk
    token_budget: int | None = None  # padded tokens per forward pass; null: what suits the device
    trust_remote_code: bool = False
    on_error: OnError = OnError.error  # of a malformed record or one that cannot be rendered verbatim
    limit: int | None = None  # the first problems of each dataset only

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit, token_budget=self.token_budget, max_length=self.max_length)


@dataclass
class BootstrapConfig:
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(100, resamples=self.resamples)
        at_most(1_000_000, resamples=self.resamples)
        at_least(0, seed=self.seed)


class Wandb(Enum):
    off = "off"
    online = "online"
    offline = "offline"


@dataclass
class TrackingConfig:
    """Weights & Biases."""

    wandb: Wandb = Wandb.off
    project: str = "rsr"


@dataclass
class ScoreConfig:
    student: StudentConfig = field(default_factory=StudentConfig)
    teachers: TeachersConfig = field(default_factory=TeachersConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


class Splitter(Enum):
    sentence = "sentence"
    newline = "newline"
    blank_line = "blank_line"


class LossMask(Enum):
    response = "response"
    response_eot = "response+eot"  # with the end-of-turn token


@dataclass
class LocalConfig:
    """Mean local surprisal (rsr.features.local_surprisal)."""

    window: int = 4  # preceding steps that the student remembers
    splitter: Splitter = Splitter.sentence
    prompt: bool = True  # whether it remembers the prompt

    def __post_init__(self) -> None:
        at_least(0, window=self.window)


@dataclass
class GradientConfig:
    """G-Norm and GRACE (rsr.features.gradients)."""

    parameters: str = "all"  # or lora_b, or a pattern of names such as *.mlp.*
    dimensions: int | None = None  # null: 512, or fewer where a dataset has too few trajectories to fill them
    seed: int = 0
    mask: LossMask = LossMask.response
    checkpointing: bool = False  # compute layers anew on the way back: less memory, a third more time

    def __post_init__(self) -> None:
        at_least(1, dimensions=self.dimensions)


@dataclass
class JudgeConfig:
    """LLM-judged quality (rsr.features.judge); the key comes from the environment alone."""

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
        at_least(1, max_tokens=self.max_tokens, attempts=self.attempts, concurrency=self.concurrency)
        at_least(100, max_characters=self.max_characters)


@dataclass
class InfluenceConfig:
    """Influence score (rsr.metrics.influence)."""

    reference: str | None = None  # folder of the student fine-tuned on the random selection
    queries: str | None = None  # file of right solutions to problems that are held out, never a benchmark
    modules: str = "*.mlp.*"  # pattern of linear modules
    examples: int = 512  # trajectories that the curvature is fitted to
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, examples=self.examples)


@dataclass
class MetricsConfig(ScoreConfig):
    # Names or groups: all, tokens, text, graded, judged, steps, step_heads, responses_alone, activations, gradients, endpoint, grad
    metrics: Any = "tokens"
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


class Card(Enum):
    """A device whose data sheet is known (experiments.study.devices)."""

    cpu = "cpu"  # one core
    a100 = "a100"
    h100 = "h100"
    h200 = "h200"


@dataclass
class Assumptions:
    """Behind the plan of a study. What is null is the card's."""

    card: Card | None = None  # null: what is here, a core where there is no GPU
    devices: int | None = None  # of that kind; null: 8 GPUs, or the cores of this machine
    flops: float | None = None  # per second and device, dense
    utilisation: float = 0.4  # share of them that scoring and training reach
    bandwidth: float | None = None  # bytes per second of a device's memory
    step: float | None = None  # seconds that a step of generation takes at least (transformers, in Python)
    tokens_per_second: float | None = None  # of sampling on one device, where a probe measured it
    memory: float | None = None  # bytes of a device
    price: float | None = None  # per hour of a device, in whatever currency
    hours: float = 1.0  # a study that is thought to take more on these devices waits for run=true

    def __post_init__(self) -> None:
        names = ("devices", "flops", "bandwidth", "tokens_per_second", "memory")
        at_least(1, **{f"plan.{name}": getattr(self, name) for name in names})
        at_least(0, **{"plan.price": self.price, "plan.step": self.step, "plan.hours": self.hours})
        if not 0 < self.utilisation <= 1:
            raise InputError(f"plan.utilisation={self.utilisation} is no share: it lies above 0 and up to 1")


@dataclass
class StudyConfig(EvaluateConfig):
    plan: Assumptions = field(default_factory=Assumptions)
    run: bool = False  # go ahead with a study that would take more than plan.hours
    study: Study = field(default_factory=Study)


@dataclass
class CorrelationConfig(StudyConfig):
    source: ResultSource = MISSING
    metric: Any = MISSING  # a name or a list of names

    @property
    def compared(self) -> list[str]:
        """Names of metrics or groups."""
        return _names(self.metric, "metric")
