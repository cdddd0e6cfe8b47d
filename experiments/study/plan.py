"""What is said of a study before it runs: its cells, and an estimate of what it takes."""

import sys
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from eval.performance import STAGE as GRADES
from experiments.app.result_folder import markdown_table
from experiments.app.shared_configs import StudyConfig
from experiments.stages import students
from experiments.study import cost_model, sampling_cost
from experiments.study.cells import processes_of
from experiments.study.cost_model import Budget
from experiments.study.savings import savings
from experiments.study.study import cells
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import MANIFEST, of_folder
from train import memory
from train.memory import Memory, Spread
from train.sft import STAGE as TRAINED

SETTLED = ("done", "not needed")  # states of cells that nothing is left of
LONG = 600  # seconds; what takes longer says so before it starts


def refuse_or_go(config: StudyConfig, differs: str = "") -> None:
    """Go ahead with a study that is agreed to, or made of what comes with the project, or short; of any other show the plan.

    Args:
        differs: what the experiment does that the plan, of training on every dataset once, does not have.

    Raises:
        InputError: the plan was shown and not agreed to.
    """
    shipped = config.teachers.recipe is not None and config.student.recipe in students.SHIPPED
    if config.run or shipped:
        return
    done = _done(config)
    budget = cost_model.of_study(config, cost_model.inputs_of(config))
    hours = sum(_left(done, stage.name) * stage.elapsed(budget.devices) for stage in budget.stages)
    if hours <= config.plan.hours and not differs:
        return
    print("\n".join(_lines(config, budget, done)))
    if differs:
        print(f"\nThe plan is that of training on every dataset once; this experiment {differs}.")
    raise InputError(
        f"nothing has been run: what is missing would take about {hours:.3g} hours (plan.hours={config.plan.hours:g} go "
        "unasked): add run=true to go ahead with this plan"
    )


def plan(config: StudyConfig) -> list[str]:
    """Cells, tokens, hours, cost, disk and memory of a study, in lines of Markdown.

    Raises:
        InputError: see `experiments.study.cost_model.inputs_of`.
    """
    return _lines(config, cost_model.of_study(config, cost_model.inputs_of(config)), _done(config))


def _lines(config: StudyConfig, budget: Budget, done: Mapping[str, tuple[int, int]]) -> list[str]:
    training, evaluation, inputs = config.student.training, config.evaluation, budget.inputs
    teachers = len({lengths.name.partition("/")[0] for lengths in inputs.lengths})
    trajectories = sum(lengths.trajectories for lengths in inputs.lengths)
    cells = ", ".join(f"{stage} {number} of {of_all} done" for stage, (number, of_all) in done.items())
    what = f"LoRA of rank {training.lora.rank}" if training.lora.rank else "full fine-tuning"
    cheaper = savings(config, budget)
    return [
        f"student     {config.student.name}: {config.student.model or config.student.recipe}, "
        f"{inputs.shape.parameters / 1e9:.3g} billion parameters",
        f"datasets    {len(inputs.lengths)} from {teachers} teachers, {trajectories:,} trajectories",
        f"training    {training.epochs} epochs, {what}",
        f"benchmarks  {', '.join(evaluation.benchmarks)}, {evaluation.samples} samples a problem of at most "
        f"{evaluation.max_new_tokens:,} tokens",
        f"cells       {cells or 'what is done is not known: student, data or benchmarks are not at hand'}",
        "",
        _stages(budget),
        "",
        f"memory of {what}, chats of {training.max_length:,} tokens, micro-batch {training.micro_batch}, checkpointing "
        + ("on" if training.gradient_checkpointing else "off"),
        memory_table(budget.memory, budget.device.memory),
        "",
        *(f"cheaper: {line}" for line in cheaper),
        *([""] if cheaper else []),
        *(f"assumed: {line}" for line in assumed(config, budget)),
        "",
        "An estimate, nothing of it is measured.",
    ]


def _done(config: StudyConfig) -> dict[str, tuple[int, int]]:
    """Cells that are done, and all, of each stage; empty where that cannot be known."""
    student = config.student
    place = config.teachers.data or ""
    made = students.is_made(student, config.paths) if student.recipe else Path(student.model or "").is_dir()
    if not made or place.startswith("hub:"):
        return {}
    by_stage: dict[str, list[str]] = {}
    try:
        of_study = cells(config)
    except InputError:  # benchmarks that cannot be loaded
        return {}
    for cell in of_study:
        by_stage.setdefault(cell.stage, []).append(cell.state)
    return {stage: (sum(s in SETTLED for s in states), len(states)) for stage, states in by_stage.items()}


def _left(done: Mapping[str, tuple[int, int]], stage: str) -> float:
    """Share of a stage that is to be done."""
    number, of_all = done.get(stage, (0, 1))
    return 1 - number / of_all


def _stages(budget: Budget) -> str:
    def row(name: str, cells: str, tokens: str, hours: float, elapsed: float, disk: float) -> list[str]:
        cost = hours * budget.device.price
        return [name, cells, tokens, f"{hours:,.3g}", f"{elapsed:,.3g}", f"{cost:,.0f}", f"{disk / 1e9:,.3g}"]

    rows = [
        row(s.name, str(s.cells), f"{s.tokens:,.3g}", s.hours, s.elapsed(budget.devices), s.disk) for s in budget.stages
    ]
    hours, disk = sum(s.hours for s in budget.stages), sum(s.disk for s in budget.stages)
    rows.append(row("all", "", "", hours, budget.hours, disk))
    device, clock = f"{budget.device.name}-hours", f"hours on {budget.devices}"
    return markdown_table(["stage", "datasets or models", "tokens", device, clock, "cost", "disk, GB"], rows)


def memory_table(ways: Mapping[tuple[Spread, int], Memory], device: float, name: str = "GPU") -> str:
    """What training takes, for each way to spread it over so many devices of so many bytes."""
    columns = ("weights", "gradients", "optimiser", "gathered", "activations", "loss")
    rows = []
    for (way, devices), needed in ways.items():
        gigabytes = [f"{getattr(needed, name) / 1e9:,.1f}" for name in (*columns, "device", "main_memory")]
        label = way.value if way is Spread.none else f"{way.value}, {devices} devices"
        rows.append([label, *gigabytes, "yes" if needed.device <= device else "no"])
    header = ["GB on each device", *columns, "together", "main memory", f"fits {device / 1e9:.0f} GB"]
    return markdown_table(header, rows)


def assumed(config: StudyConfig, budget: Budget) -> list[str]:
    """What an estimate stands on, a line each."""
    device, taken = budget.device, config.plan
    sampling = [
        f"a step of generation takes at least {device.step:g} s in transformers (plan.step), {device.server_step:g} s in a server",
        *sampling_cost.ASSUMED,
    ]
    if taken.tokens_per_second:
        sampling = [
            f"sampling writes {taken.tokens_per_second:,.0f} tokens a second and device (plan.tokens_per_second)"
        ]
    return [
        *budget.inputs.source,
        f"{budget.devices} devices (plan.devices), each a{'n' if device.name[0] in 'AH' else ''} {device.name} (plan.card); hours "
        "on the clock are of one stage after the other",
        f"{device.flops:.2g} FLOP/s a device (plan.flops), of which scoring and training reach {taken.utilisation:.0%} "
        "(plan.utilisation); operations are counted from the student's shape, attention at the mean length",
        f"{device.bandwidth:.2g} B/s of memory (plan.bandwidth)",
        *sampling,
        f"{device.price:g} per hour of a device (plan.price), in whatever currency",
        *(f"{stage.name}: {stage.note}" for stage in budget.stages if stage.note),
        *(f"memory: {line}" for line in memory.ASSUMED),
    ]


# --- the pace of earlier runs ---------------------------------------------------------------------------------------


def announce(config: StudyConfig, data: Sequence[Dataset], seeds: int) -> None:
    """Say before it starts how many trainings there will be, and that they take long where they do at the pace of this
    student's earlier ones. Nothing is taken off for what is there already.
    """
    said = f"{len(data) * seeds} trainings and evaluations, less what is there"
    trained = [(manifest["seconds"], manifest["counts"]["rows"]) for manifest in _manifests(config, TRAINED)]
    graded = [manifest["seconds"] for manifest in _manifests(config, GRADES)]
    if trained and graded:
        each = sum(seconds for seconds, _ in trained) / sum(rows for _, rows in trained)
        evaluation = sum(graded) / len(graded) * len(config.evaluation.benchmarks)
        seconds = sum(each * len(dataset.trajectories) + evaluation for dataset in data) * seeds
        seconds /= processes_of(config.study)
        said += f": about {seconds / 60:.0f} min at the pace of earlier ones" if seconds > LONG else ""
    print(said, file=sys.stderr, flush=True)


def _manifests(config: StudyConfig, stage: str) -> list[Mapping[str, Any]]:
    files: list[Path] = sorted((config.paths.outputs / stage).glob(f"{escape(config.student.name)}-*/{MANIFEST}"))
    return [of_folder(path.parent).facts for path in files]
