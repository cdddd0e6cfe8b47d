"""What a measured study would cost, before anything is spent."""

from experiments import datasets, students
from experiments.config import StudyConfig
from rsr import student
from rsr.errors import InputError

# Assumptions behind the hours; an estimate, named with every number it gives.
FLOPS = 4e14  # per second: 40 % of one H200's peak in bfloat16
SAMPLE = 200  # trajectories that the length is estimated from


def refuse_or_go(config: StudyConfig) -> None:
    """Go ahead with a study whose teachers are made on the spot; of any other show the plan and ask for run=true.

    Raises:
        InputError: the plan was shown and not agreed to.
    """
    if config.teachers.recipe is not None or config.run:
        return
    print("\n".join(plan(config)))
    raise InputError("nothing has been run: add run=true to go ahead with this plan")


def plan(config: StudyConfig) -> list[str]:
    """Models, datasets, tokens, hours and disk of a study.

    Raises:
        InputError: the student or its data cannot be read.
    """
    training = config.student.training
    model = students.model_of(config.student, config.paths)
    parameters = student.parameters(
        model, revision=config.student.revision, trust_remote_code=config.scoring.trust_remote_code
    )
    renderer = student.load_renderer(
        model,
        revision=config.student.revision,
        template=config.student.template,
        template_variables=config.student.template_variables,
        trust_remote_code=config.scoring.trust_remote_code,
    )
    data = datasets.load(config.teachers, config.scoring, config.paths)
    tokens = 0.0
    for dataset in data:
        sample = dataset.trajectories[:SAMPLE]
        lengths = [min(renderer.render(t.messages).length, training.max_length) for t in sample]
        tokens += sum(lengths) / len(lengths) * len(dataset.trajectories)
    models = len(data) + 1
    evaluation = config.evaluation
    flops = {
        "score": 2 * parameters * tokens,
        "train": 6 * parameters * tokens * training.epochs,
    }
    hours = {stage: amount / FLOPS / 3600 for stage, amount in flops.items()}
    weights = parameters * (2 if training.bf16 else 4) / 1e9
    return [
        f"student     {config.student.name}: {model}, {parameters / 1e9:.3g} billion parameters",
        f"datasets    {len(data)} from {len({d.teacher for d in data})} teachers, "
        f"{sum(len(d.trajectories) for d in data):,} trajectories, about {tokens:,.0f} tokens (from the first {SAMPLE} each)",
        f"score       {hours['score']:.3g} GPU-hours",
        f"train       {len(data)} models, {training.epochs} epochs, {hours['train']:.3g} GPU-hours"
        + (f", LoRA of rank {training.lora.rank}" if training.lora.rank else ""),
        f"evaluate    {models} models on {', '.join(evaluation.benchmarks)}, {evaluation.samples} samples a problem of at most "
        f"{evaluation.max_new_tokens:,} tokens; hours depend on the lengths, which are not known before",
        f"disk        {len(data) * weights:.3g} GB of trained weights, {tokens * 12 / 1e9:.3g} GB of token statistics; "
        f"while it trains {12 * parameters / 1e9:.3g} GB for a checkpoint with its optimiser",
        f"assumed     {FLOPS:.0e} FLOP/s on one device (40 % of an H200's peak in bfloat16), 2 FLOP per parameter and token "
        "to score, 6 to train; attention not counted. An estimate, nothing of it is measured.",
    ]
