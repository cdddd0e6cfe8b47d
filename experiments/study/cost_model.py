"""What a study takes: tokens, operations, GPU-hours and disk of each stage, as far as they can be known before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.app.shared_configs import StudyConfig
from experiments.paper import published
from experiments.stages import evaluation, students, teacher_data
from rsr.data.trajectories import Dataset, dataset_name
from rsr.errors import InputError
from rsr.student import student as rsr_student
from rsr.tokens.dry_run import BYTES_PER_TOKEN
from rsr.tokens.score_dataset import CHARACTERS
from train import memory
from train.memory import BFLOAT16, FLOAT32, Memory, Shape, Spread
from train.rows import rows_of

SAMPLE = 200  # trajectories of a dataset that its length is estimated from
PRINTED_LENGTH = "avg_token_length"
PRINTED = "mean lengths of responses as the paper prints them, prompts not counted"
TRAJECTORIES = 5_000  # of a dataset of the paper
PROBLEMS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "gpqa_diamond": 198, "gsm8k": 1319}
BYTES_PER_ANSWERED_TOKEN = 8  # of samples: an id and its text
# Times a forward pass: the way back through activations, through weights that are trained, and what checkpointing computes anew.
BACK, OF_WEIGHTS, AGAIN = 1, 1, 1


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
    """What a stage takes; hours of one device."""

    name: str
    cells: int
    tokens: float
    hours: float
    disk: float
    note: str = ""


@dataclass(frozen=True)
class Budget:
    """What a study takes.

    Attributes:
        source: where lengths and problems come from, a line each.
        memory: of training, for each way to spread a student over this many devices.
    """

    shape: Shape
    lengths: Sequence[Length]
    stages: Sequence[Stage]
    memory: dict[tuple[Spread, int], Memory]
    source: Sequence[str]


def of_study(config: StudyConfig) -> Budget:
    """Estimate a study.

    Raises:
        InputError: neither the student's shape is known nor its configuration can be loaded; or there are no data and no printed
            lengths.
    """
    shape = shape_of(config)
    lengths, source = lengths_of(config)
    problems, counted = problems_of(config)
    stages = [_scoring(config, shape, lengths), _training(config, shape, lengths)]
    stages.append(_evaluation(config, shape, lengths, problems))
    longest = config.student.training.max_length * config.student.training.micro_batch
    checkpointing = config.student.training.gradient_checkpointing
    rank, devices = config.student.training.lora.rank, config.plan.devices
    ways = [(Spread.none, 1)]
    if not rank and devices > 1:  # adapters are trained on one device
        ways += [(Spread.fsdp, devices), (Spread.offloaded, devices)]
    spread = {
        (way, n): memory.of_training(shape, longest, n, way, checkpointing=checkpointing, rank=rank) for way, n in ways
    }
    return Budget(shape, lengths, stages, spread, [source, counted])


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
        loaded = rsr_student.load_config(
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


def _scoring(config: StudyConfig, shape: Shape, lengths: Sequence[Length]) -> Stage:
    tokens = sum(dataset.trajectories * dataset.tokens for dataset in lengths)
    operations = sum(dataset.trajectories * dataset.tokens * shape.flops(dataset.tokens) for dataset in lengths)
    return Stage("score", len(lengths), tokens, _hours(config, operations), tokens * BYTES_PER_TOKEN)


def _training(config: StudyConfig, shape: Shape, lengths: Sequence[Length]) -> Stage:
    training = config.student.training
    rank = training.lora.rank
    times = 1 + BACK + (0 if rank else OF_WEIGHTS) + (AGAIN if training.gradient_checkpointing else 0)
    tokens = training.epochs * sum(dataset.trajectories * dataset.tokens for dataset in lengths)
    operations = sum(dataset.trajectories * dataset.tokens * shape.flops(dataset.tokens) for dataset in lengths)
    weights = len(lengths) * shape.parameters * (BFLOAT16 if training.bf16 else FLOAT32)
    checkpoint = 3 * FLOAT32 * (shape.adapters(rank) if rank else shape.parameters)
    hours = _hours(config, times * training.epochs * operations)
    return Stage("train", len(lengths), tokens, hours, weights + checkpoint, "with one checkpoint and its optimiser")


def _evaluation(config: StudyConfig, shape: Shape, lengths: Sequence[Length], problems: int) -> Stage:
    """Steps of generation read all weights and the batch's cache; answers are taken to be as long as the training data."""
    chosen, plan = config.evaluation, config.plan
    mean = sum(dataset.tokens for dataset in lengths) / len(lengths)
    answers = [min(length, chosen.max_new_tokens) for length in (mean, *(dataset.tokens for dataset in lengths))]
    samples = problems * chosen.samples
    batch = min(chosen.batch_size, max(1, samples))
    seconds = 0.0
    for length in answers:
        read = BFLOAT16 * shape.parameters + batch * shape.cache() * length / 2
        seconds += samples / batch * length * max(plan.step, read / plan.bandwidth)
    tokens = samples * sum(answers)
    note = "answers as long as the data trained on, those of a batch as long as each other"
    return Stage("evaluate", len(answers), tokens, seconds / 3600, tokens * BYTES_PER_ANSWERED_TOKEN, note)


def _hours(config: StudyConfig, operations: float) -> float:
    return operations / (config.plan.flops * config.plan.utilisation) / 3600
