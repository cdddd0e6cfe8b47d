"""Evaluate a student before training and after training on each of its teachers' datasets.

    python experiments/evaluate.py student=miniature
    python experiments/evaluate.py student=smollm2 teachers=none 'evaluation.benchmarks=[gsm8k]'   # before training, alone
    python experiments/evaluate.py student=qwen3b evaluation.benchmarks=[aime24,math500] evaluation.data=FOLDER
    python experiments/evaluate.py -m student=miniature evaluation.temperature=0.6,1.0

Samples go to outputs/samples/, grades to outputs/grades/; the same command goes on where it stopped. Students that are not
trained yet are named: experiments/train.py trains them, experiments/correlation.py runs every stage.
"""

from functools import partial
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import Progress

from eval import performance
from eval.performance import Performance
from experiments.app import tracking
from experiments.app.entry import entry
from experiments.app.shared_configs import EvaluateConfig
from experiments.stages import students, teacher_data, training
from experiments.stages.evaluation import (
    BASE,
    evaluate,
    find_samples,
    identity_of_base,
    identity_of_trained,
    load_benchmarks,
)
from rsr.errors import InputError
from rsr.grading.grader import Outcome
from rsr.stats.effect import estimate_text
from rsr.store.artefacts import Artefact


@entry("evaluate", EvaluateConfig, open_groups=True)
def main(config: EvaluateConfig) -> None:
    tracking.prepare(config.tracking, config.paths.outputs)
    base = students.base_of(config.student, config.scoring, config.paths)
    wanted = load_benchmarks(config)
    models: dict[str, tuple[Artefact | None, dict[str, Any]]] = {BASE: (None, identity_of_base(config, base))}
    untrained: list[str] = []
    rows: list[dict[str, Any]] = []
    teachers = config.teachers
    has_data = teachers.data is not None or teachers.recipe is not None  # teachers=none: the student alone
    for dataset in teacher_data.load(teachers, config.scoring, config.paths) if has_data else []:
        trained = training.find(config, base, dataset)
        models[dataset.name] = (trained, identity_of_trained(config, trained))
        if trained.manifest is None:
            untrained.append(dataset.name)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for name, (weights, identity) in models.items():
            label = f"{base.name}-{name}"
            artefacts = find_samples(config, label, identity, [benchmark.identity() for benchmark in wanted])
            if name in untrained and any(artefact.manifest is None for artefact in artefacts):
                continue
            total = sum(len(benchmark.documents) for benchmark in wanted) * config.evaluation.samples
            bar = progress.add_task(f"evaluating {name}", total=total)
            grades = evaluate(config, label, base, weights, identity, partial(progress.advance, bar))
            progress.remove_task(bar)
            for artefact in grades:
                measured = performance.of(artefact)
                print(_line(name, artefact, measured))
                rows.append({"trained on": name, "benchmark": artefact.facts["benchmark"], **vars(measured)})
            untrained = [other for other in untrained if other != name]
    tracking.log(config.tracking, f"evaluate {config.student.name}", {"performance": pl.DataFrame(rows)})
    if untrained:
        raise InputError(
            f"not trained yet: {', '.join(untrained)}; experiments/train.py with the same settings trains them"
        )


def _line(name: str, grades: Artefact, p: Performance) -> str:
    return (
        f"{name}, {grades.facts['benchmark']}: {estimate_text(p.accuracy, p.low, p.high, '.1%')} Acc@{p.k} over "
        f"{p.problems} problems, {p.mean_length:.0f} tokens, {p.truncated:.1%} truncated, {p.unanswered:.1%} "
        f"unanswered, {p.ungradable:.1%} ungradable ({grades.facts['outcomes'].get(Outcome.TIMED_OUT.value, 0)} timed out)"
    )


if __name__ == "__main__":
    main()
