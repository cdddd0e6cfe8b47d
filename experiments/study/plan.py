"""What is said of a study before it runs: its cells, and an estimate of what it takes."""

import sys
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from eval.performance import STAGE as GRADES
from experiments.app.result_folder import markdown_table
from experiments.app.shared_configs import Assumptions, StudyConfig
from experiments.stages import students
from experiments.study import cost_model
from experiments.study.cells import processes_of
from experiments.study.cost_model import Budget
from experiments.study.study import cells
from rsr.data.trajectories import Dataset
from rsr.errors import InputError
from rsr.store.artefacts import MANIFEST, of_folder
from train import memory
from train.memory import Memory, Spread
from train.sft import STAGE as TRAINED

LONG = 600  # seconds; what takes longer says so before it starts


def refuse_or_go(config: StudyConfig, differs: str = "") -> None:
    """Go ahead with a study whose teachers are made on the spot; of any other show the plan and ask for run=true.

    Args:
        differs: what the experiment does that the plan, of training on every dataset once, does not have.

    Raises:
        InputError: the plan was shown and not agreed to.
    """
    if config.teachers.recipe is not None or config.run:
        return
    print("\n".join(plan(config)))
    if differs:
        print(f"\nThe plan is that of training on every dataset once; this experiment {differs}.")
    raise InputError("nothing has been run: add run=true to go ahead with this plan")


def plan(config: StudyConfig) -> list[str]:
    """Cells, tokens, hours, cost, disk and memory of a study, in lines of Markdown.

    Raises:
        InputError: see `experiments.study.cost_model.of_study`.
    """
    budget = cost_model.of_study(config)
    training, evaluation = config.student.training, config.evaluation
    teachers = len({lengths.name.partition("/")[0] for lengths in budget.lengths})
    rank = training.lora.rank
    trained = f"training adapters of rank {rank}" if rank else "full fine-tuning"
    return [
        f"student     {config.student.name}: {config.student.model or config.student.recipe}, "
        f"{budget.shape.parameters / 1e9:.3g} billion parameters",
        f"datasets    {len(budget.lengths)} from {teachers} teachers, {sum(lengths.trajectories for lengths in budget.lengths):,} trajectories",
        f"training    {training.epochs} epochs, {trained}",
        f"benchmarks  {', '.join(evaluation.benchmarks)}, {evaluation.samples} samples a problem of at most "
        f"{evaluation.max_new_tokens:,} tokens",
        f"cells       {_cells(config)}",
        "",
        _stages(budget, config.plan),
        "",
        f"memory of {trained}, chats of {training.max_length:,} tokens, micro-batch {training.micro_batch}, checkpointing "
        + ("on" if training.gradient_checkpointing else "off"),
        memory_table(budget.memory, config.plan.memory, config.plan.device),
        "",
        *_assumed(budget, config.plan),
        "",
        "An estimate, nothing of it is measured.",
    ]


def _cells(config: StudyConfig) -> str:
    """How many there are, and how many are done of each stage, where that can be known."""
    student = config.student
    place = config.teachers.data or ""
    made = students.is_made(student, config.paths) if student.recipe else Path(student.model or "").is_dir()
    if not made or place.startswith("hub:"):
        return "what is done is not known: student or data are not at hand"
    by_stage: dict[str, list[str]] = {}
    for cell in cells(config):
        by_stage.setdefault(cell.stage, []).append(cell.state)
    settled = ("done", "not needed")
    return ", ".join(
        f"{stage} {sum(s in settled for s in cells)} of {len(cells)} done" for stage, cells in by_stage.items()
    )


def _stages(budget: Budget, assumed: Assumptions) -> str:
    rows = [
        [
            s.name,
            str(s.cells),
            f"{s.tokens:,.3g}",
            f"{s.hours:,.3g}",
            f"{s.hours * assumed.price:,.0f}",
            f"{s.disk / 1e9:,.3g}",
        ]
        for s in budget.stages
    ]
    hours, disk = sum(s.hours for s in budget.stages), sum(s.disk for s in budget.stages)
    rows.append(["all", "", "", f"{hours:,.3g}", f"{hours * assumed.price:,.0f}", f"{disk / 1e9:,.3g}"])
    return markdown_table(
        ["stage", "datasets or models", "tokens", f"{assumed.device}-hours", "cost", "disk, GB"], rows
    )


def memory_table(ways: Mapping[tuple[Spread, int], Memory], device: float, name: str = "GPU") -> str:
    """What training takes, for each way to spread it over so many devices of so many bytes."""
    columns = ("weights", "gradients", "optimiser", "gathered", "activations", "logits")
    rows = []
    for (way, devices), needed in ways.items():
        gigabytes = [f"{getattr(needed, name) / 1e9:,.1f}" for name in (*columns, "device", "main_memory")]
        label = f"one {name}" if way is Spread.none else f"{way.value}, {devices} {name}s"
        rows.append([label, *gigabytes, "yes" if needed.device <= device else "no"])
    header = [f"GB on each {name}", *columns, "together", "main memory", f"fits {device / 1e9:.0f} GB"]
    return markdown_table(header, rows)


def _assumed(budget: Budget, assumed: Assumptions) -> list[str]:
    lines = [
        *budget.source,
        f"{assumed.flops:.2g} FLOP/s a device (plan.flops), of which scoring and training reach {assumed.utilisation:.0%} "
        "(plan.utilisation); operations are counted from the student's shape, attention at the mean length",
        f"a step of generation reads weights and cache at {assumed.bandwidth:.2g} B/s (plan.bandwidth), and takes at least "
        f"{assumed.step:g} s (plan.step)",
        f"{assumed.price:g} per {assumed.device}-hour (plan.price), in whatever currency",
        *(f"{stage.name}: {stage.note}" for stage in budget.stages if stage.note),
        *(f"memory: {line}" for line in memory.ASSUMED),
    ]
    return [f"assumed: {line}" for line in lines]


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
