"""The plan of several students side by side: hours on the clock of each stage."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from omegaconf import OmegaConf

from eval.settings import Way
from experiments.app.result_folder import markdown_table
from experiments.app.shared_configs import ROOT, StudentConfig, StudyConfig
from experiments.paper import published
from experiments.study.cost_model import inputs_of, of_study
from experiments.study.plan import assumed

ALL = "all"  # of the paper's students
WAYS = (Way.batches, Way.continuous, Way.server)


def plan(config: StudyConfig) -> list[str]:
    """Hours of each stage for each of the paper's students, in lines of Markdown.

    Raises:
        InputError: see `experiments.study.cost_model.inputs_of`.
    """
    rows, lines = list[list[str]](), list[str]()
    for student in _students(config):
        of_one = replace(config, student=student)
        inputs = inputs_of(of_one)
        by_way = [of_study(of_one, inputs, way) for way in WAYS]
        budget = by_way[-1]
        score, train, _ = (stage.elapsed(budget.devices) for stage in budget.stages)
        sampled = [estimate.stages[-1].elapsed(estimate.devices) for estimate in by_way]
        hours = sum(stage.hours for stage in budget.stages)
        spread = f"all {budget.devices}" if budget.stages[1].spread else "one"
        numbers = [f"{number:,.3g}" for number in (score, train, *sampled, budget.hours, hours)]
        rows.append([student.name, *numbers[:2], spread, *numbers[2:]])
        lines = assumed(of_one, budget)
    device = budget.device.name
    header = [
        "hours on the clock",
        "score",
        "train",
        "devices a training",
        *(f"evaluate by {way.value}" for way in WAYS),
    ]
    header += ["all, by server", f"{device}-hours, by server"]
    # What a stage says of itself is another for another student.
    common = [line for line in lines if not line.startswith(("train: ", "evaluate: "))]
    return [markdown_table(header, rows), "", *(f"assumed: {line}" for line in common)]


def _students(config: StudyConfig) -> Iterator[StudentConfig]:
    for name in published.read(config.paths.published).students(ALL):
        file = OmegaConf.load(ROOT / "configs" / "student" / f"{name}.yaml")
        yield cast(StudentConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudentConfig), file)))
