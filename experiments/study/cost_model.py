"""What a study takes: tokens, operations, hours and disk of each stage, as far as they can be known before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from eval.settings import Way
from experiments.app.shared_configs import StudyConfig
from experiments.paper import published
from experiments.stages import evaluation, students, teacher_data
from experiments.study import sampling_cost
from experiments.study.devices import Device, count_of, device_of
from experiments.study.sampling_cost import Sampling
from rsr.data.trajectories import Dataset, dataset_name
from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student import student as rsr_student
from rsr.tokens.dry_run import BYTES_PER_TOKEN
from rsr.tokens.settings import CHARACTERS
from train import memory
from train.memory import BFLOAT16, FLOAT32, Memory, Shape, Spread
from train.rows import rows_of

SAMPLE = 200  # trajectories of a dataset that its length is estimated from
PRINTED_LENGTH = "avg_token_length"
PRINTED = "mean lengths of responses as the paper prints them, prompts not counted"
TRAJECTORIES = 5_000  # of a dataset of the paper
PROBLEMS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "gpqa_diamond": 198, "gsm8k": 1319}
BYTES_PER_ANSWERED_TOKEN = 8  # of samples: an id and its text
# Times a forward pass: the way back to all weights or through them to adapters, and what checkpointing computes anew.
BACKWARD, BACKWARD_TO_ADAPTERS, AGAIN = 2, 1, 1


@dataclass(frozen=True)
class Length:
    """Of one dataset.

    Attributes:
        tokens: mean of a chat, cut at the length that is trained on.
    """

    name: str
    trajectories: int
    tokens: float


@dataclass(frozen=True)
class Stage:
    """What a stage takes.

    Attributes:
        hours: of one device.
        spread: whether each cell takes all devices, as one that no device holds.
    """

    name: str
    cells: int
    tokens: float
    hours: float
    disk: float
    note: str = ""
    spread: bool = False

    def elapsed(self, devices: int) -> float:
        """Hours on the clock: a cell takes one device, or all of them."""
        return self.hours / devices if self.spread else self.hours / self.cells * ceil(self.cells / devices)


@dataclass(frozen=True)
class Inputs:
    """What an estimate follows from besides its assumptions.

    Attributes:
        problems: of all benchmarks.
        source: where lengths and problems come from, a line each.
    """

    shape: Shape
    lengths: Sequence[Length]
    problems: int
    source: Sequence[str] = ()


@dataclass(frozen=True)
class Budget:
    """What a study takes.

    Attributes:
        devices: that are at work.
        memory: of training, for each way to spread a student over this many devices.
    """

    inputs: Inputs
    device: Device
    devices: int
    stages: Sequence[Stage]
    memory: dict[tuple[Spread, int], Memory]

    @property
    def hours(self) -> float:
        """On the clock, one stage after the other."""
        return sum(stage.elapsed(self.devices) for stage in self.stages)


def inputs_of(config: StudyConfig) -> Inputs:
    """What is known of a study before it runs.

    Raises:
        InputError: neither the student's shape is known nor its configuration can be loaded; or there are no data and no printed
            lengths.
    """
    lengths, source = lengths_of(config)
    problems, counted = problems_of(config)
    return Inputs(shape_of(config), lengths, problems, [source, counted])


def of_study(config: StudyConfig, inputs: Inputs, way: Way | None = None) -> Budget:
    """Estimate a study.

    Args:
        way: of sampling; None is the one that the configuration leads to on this device.
    """
    device = device_of(config.plan)
    devices = count_of(config.plan, device)
    spreads = _memory(config, device, devices, inputs.shape)
    alone = spreads[Spread.none, 1].device <= device.memory or len(spreads) == 1
    stages = [
        _scoring(config, device, inputs),
        _training(config, device, inputs, spread=not alone),
        _evaluation(config, device, inputs, way),
    ]
    return Budget(inputs, device, devices, stages, spreads)


def _memory(config: StudyConfig, device: Device, devices: int, shape: Shape) -> dict[tuple[Spread, int], Memory]:
    """Of training, in every way that there is to spread it."""
    training = config.student.training
    ways = [(Spread.none, 1)]
    if device.gpu and not training.lora.rank:  # adapters are trained on one device
        ways += [(Spread.fsdp, devices), (Spread.offloaded, devices)]
    longest, checkpointing = training.max_length * training.micro_batch, training.gradient_checkpointing
    rank = training.lora.rank
    return {
        (way, n): memory.of_training(shape, longest, n, way, checkpointing=checkpointing, lora_rank=rank)
        for way, n in ways
    }


def shape_of(config: StudyConfig) -> Shape:
    """The student's shape: of its configuration file here, or else as configured, or else from the hub.

    Raises:
        InputError: it cannot be loaded, or describes no such decoder.
    """
    student = config.student
    if student.shape is not None and not (student.model and Path(student.model).is_dir()):
        return student.shape
    model = students.model_of(student, config.paths)
    try:
        loaded = pretrained.load_config(
            model, revision=student.revision, trust_remote_code=config.scoring.trust_remote_code
        )
    except InputError as error:
        raise InputError(f"{error}; or give its shape (student.shape, as in configs/student/qwen3b.yaml)") from error
    shape = memory.of_config(loaded)
    if shape is None:
        raise InputError(f"{model}: its configuration does not tell its shape: give student.shape")
    return shape


def lengths_of(config: StudyConfig) -> tuple[list[Length], str]:
    """Lengths of the teachers' datasets, and where they are from: counted, or published ones where the data or the student's
    tokenizer are not at hand.

    Without either they are guessed from the characters of the data.

    Raises:
        InputError: the data cannot be read.
    """
    place = config.teachers.data
    if place is not None and place.startswith("hub:") and config.teachers.teachers:
        printed = _printed(config)
        if printed:
            return [*printed.values()], f"{PRINTED}; {TRAJECTORIES:,} trajectories a dataset"
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    student = config.student
    try:
        renderer = rsr_student.load_renderer(
            students.model_of(student, config.paths),
            revision=student.revision,
            **students.loading_of(student, config.scoring).of_chats,
            trust_remote_code=config.scoring.trust_remote_code,
        )
    except InputError as error:
        printed = _printed(config)
        if not {dataset.name for dataset in data} <= {*printed}:
            return _guessed(
                config, data
            ), f"lengths guessed from characters: the student's tokenizer is not at hand ({error})"
        counted = [replace(printed[dataset.name], trajectories=len(dataset.trajectories)) for dataset in data]
        return counted, f"{PRINTED}: the student's tokenizer is not at hand ({error})"

    def mean(dataset: Dataset) -> float:
        sample = dataset.trajectories[:SAMPLE]
        lengths = [[chat.length for chat in rows_of(renderer, t)] for t in sample]
        return sum(min(n, student.training.max_length) for of_one in lengths for n in of_one) / max(1, len(lengths))

    lengths = [Length(dataset.name, len(dataset.trajectories), mean(dataset)) for dataset in data]
    return lengths, f"lengths of the first {SAMPLE} trajectories of each dataset"


def _guessed(config: StudyConfig, data: Sequence[Dataset]) -> list[Length]:
    def tokens(dataset: Dataset) -> float:
        lengths = [t.characters / CHARACTERS for t in dataset.trajectories]
        return sum(min(n, config.student.training.max_length) for n in lengths) / max(1, len(lengths))

    return [Length(dataset.name, len(dataset.trajectories), tokens(dataset)) for dataset in data]


def _printed(config: StudyConfig) -> dict[str, Length]:
    """By name a dataset of each teacher and generation; none where the paper prints no length of some teacher for this student."""
    rows = published.read(config.paths.published).scores()
    of_student = rows.filter(student=config.student.name, metric=PRINTED_LENGTH)
    known = dict(of_student.select("teacher", "value").iter_rows())
    names = [teacher.name for teacher in config.teachers.teachers]
    if not {*names} <= {*known}:
        return {}
    generations = config.teachers.generations or [""]
    datasets = [(name, dataset_name(name, generation)) for name in names for generation in generations]
    return {dataset: Length(dataset, TRAJECTORIES, known[teacher]) for teacher, dataset in datasets}


def problems_of(config: StudyConfig) -> tuple[int, str]:
    """Problems of the benchmarks, and how they were counted.

    Raises:
        InputError: a benchmark of unknown size has no local copy.
    """
    chosen = config.evaluation
    if chosen.data is None and not config.teachers.recipe and {*chosen.benchmarks} <= {*PROBLEMS}:
        sizes = [PROBLEMS[name] for name in chosen.benchmarks]
        limited = sum(min(size, chosen.limit or size) for size in sizes)
        return limited, "benchmarks counted as they are published"
    return sum(len(b.documents) for b in evaluation.load_benchmarks(config)), "benchmarks counted in their files"


def _scoring(config: StudyConfig, device: Device, inputs: Inputs) -> Stage:
    tokens, operations = _passed(inputs)
    hours = operations / (device.flops * config.plan.utilisation) / 3600
    return Stage("score", len(inputs.lengths), tokens, hours, tokens * BYTES_PER_TOKEN)


def _training(config: StudyConfig, device: Device, inputs: Inputs, *, spread: bool) -> Stage:
    training, shape, cells = config.student.training, inputs.shape, len(inputs.lengths)
    backward = BACKWARD_TO_ADAPTERS if training.lora.rank else BACKWARD
    times = training.epochs * (1 + backward + (AGAIN if training.gradient_checkpointing else 0))
    tokens, operations = _passed(inputs)
    hours = times * operations / (device.flops * config.plan.utilisation) / 3600
    weights = cells * shape.parameters * (BFLOAT16 if training.bf16 else FLOAT32)
    trained = shape.adapters(training.lora.rank) if training.lora.rank else shape.parameters
    note = "disk with one checkpoint and its optimiser" + (
        "; each on all devices, as no one holds it" if spread else ""
    )
    return Stage("train", cells, training.epochs * tokens, hours, weights + 3 * FLOAT32 * trained, note, spread)


def _evaluation(config: StudyConfig, device: Device, inputs: Inputs, way: Way | None) -> Stage:
    """Of the student before training and after each: answers are taken to be as long as the data trained on."""
    chosen, plan = config.evaluation, config.plan
    lengths = [dataset.tokens for dataset in inputs.lengths]
    means = [min(tokens, chosen.max_new_tokens) for tokens in (sum(lengths) / len(lengths), *lengths)]
    answers = inputs.problems * chosen.samples
    tokens = answers * sum(means)
    taken = way or chosen.chosen_way(on_gpu=device.gpu)
    together = chosen.batch_size if taken is Way.batches else chosen.concurrency
    if way is None and plan.tokens_per_second:
        seconds = tokens / plan.tokens_per_second
    else:
        works = [Sampling(answers, mean, chosen.max_new_tokens, together) for mean in means]
        seconds = sum(sampling_cost.seconds(taken, inputs.shape, device, work, plan.utilisation) for work in works)
    note = f"sampled by {taken.value}"
    return Stage("evaluate", len(means), tokens, seconds / 3600, tokens * BYTES_PER_ANSWERED_TOKEN, note)


def _passed(inputs: Inputs) -> tuple[float, float]:
    """Tokens of all datasets, and operations of a forward pass over them."""
    tokens = sum(dataset.trajectories * dataset.tokens for dataset in inputs.lengths)
    operations = sum(d.trajectories * d.tokens * inputs.shape.flops(d.tokens) for d in inputs.lengths)
    return tokens, operations
