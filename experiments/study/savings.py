"""What would make a study cheaper: the same plan with one setting changed."""

from collections.abc import Iterator
from dataclasses import replace

from eval.settings import Way
from experiments.app.shared_configs import StudyConfig
from experiments.study.cost_model import Budget, Inputs, of_study

LEAST = 0.05  # share of a study's hours below which a change is not worth a line


def savings(config: StudyConfig, budget: Budget) -> list[str]:
    """Changes that save most first, with the hours of one device that they leave."""
    hours = _of_one(budget)
    left = [(_of_one(changed), said) for said, changed in _changes(config, budget.inputs)]
    return [
        f"{said}: {less:,.3g} instead of {hours:,.3g} {budget.device.name}-hours"
        for less, said in sorted(left)
        if less < (1 - LEAST) * hours
    ]


def _of_one(budget: Budget) -> float:
    return sum(stage.hours for stage in budget.stages)


def _changes(config: StudyConfig, inputs: Inputs) -> Iterator[tuple[str, Budget]]:
    training, chosen, generations = config.student.training, config.evaluation, config.teachers.generations
    if not config.plan.tokens_per_second:
        server = "a server that samples (evaluation.server or evaluation.endpoint)"
        yield server, of_study(config, inputs, Way.server)
        yield "evaluation.way=continuous", of_study(config, inputs, Way.continuous)
    if training.gradient_checkpointing:
        without = replace(training, gradient_checkpointing=False)
        fitting = of_study(replace(config, student=replace(config.student, training=without)), inputs)
        if any(needed.device <= fitting.device.memory for needed in fitting.memory.values()):
            yield "student.training.gradient_checkpointing=false, which memory allows", fitting
    if len(generations) > 1:
        first = [length for length in inputs.lengths if length.name.endswith(f"/{generations[0]}")]
        said = f"one generation of each teacher (teachers.generations=[{generations[0]}]), with less to average over"
        yield said, of_study(config, replace(inputs, lengths=first))
    if chosen.samples > 1:
        fewer = replace(config, evaluation=replace(chosen, samples=1))
        yield "evaluation.samples=1, with wider intervals", of_study(fewer, inputs)
