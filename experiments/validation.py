"""Does a score predict which teachers my student learns from? Tried on a few of them before all are trained on.

    python experiments/validation.py student=miniature
    python experiments/validation.py student=PATH_OR_HUB_NAME teachers=FOLDER run=true
    python experiments/validation.py student=miniature validation.metric=avg_surprisal 'validation.teachers=[chain_near,mixed,direct_far]'

Scores every teacher, takes some that are spread over the order of scores (before any accuracy is seen), trains the student on
each, and compares the predicted with the measured order. Writes results/validation/<student>/.
"""

from experiments.analysis.validation import choose, compared, predictions
from experiments.app.command_configs import ValidationConfig
from experiments.app.entry import entry
from experiments.reports.validation import write
from experiments.stages import teacher_data, training_sets
from experiments.study.plan import refuse_or_go
from experiments.study.study import learn
from rsr.errors import InputError
from rsr.metrics import by_name


@entry("validation", ValidationConfig, open_groups=True)
def main(config: ValidationConfig) -> None:
    count = len(config.validation.teachers) or config.validation.count
    refuse_or_go(config, f"trains on {count} datasets, with {len(config.validation.seeds)} seeds")
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    singles = training_sets.first_generations(data)
    metric = by_name(config.validation.metric)
    scores, missing = training_sets.scored(config, [metric.name], "validation.metric")
    if missing:
        raise InputError(f"validation.metric={metric.name}: {missing[metric.name]}")
    chosen = choose(singles, predictions(scores, metric), metric, config)
    learned = learn(config, chosen, config.validation.seeds)
    if not learned.grades:
        learned.runs.refuse_failed()
    write(compared(chosen, predictions(scores, metric), learned), metric, learned, len(singles), config)
    learned.runs.refuse_failed()


if __name__ == "__main__":
    main()
