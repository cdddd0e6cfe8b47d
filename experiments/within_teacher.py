"""Which of one teacher's own trajectories? The best of its samples for each problem, and a share of the problems.

    python experiments/within_teacher.py student=miniature 'within.teachers=[chain_near,mixed]'
    python experiments/within_teacher.py student=miniature 'within.metrics=[rsr,calibrated_rsr]' scoring.expectations=true
    python experiments/within_teacher.py student=PATH_OR_HUB_NAME teachers=FOLDER run=true

For each teacher: of its n generations the wording that the student's score prefers against one by chance; and the share of
problems whose solutions score best against as many by chance, beside all of them. Several scores
are compared with chance and with the first of them. Writes results/within_teacher/<student>[-<metrics>]/.
"""

from experiments.analysis.within_teacher import arms_of
from experiments.app.command_configs import WithinConfig
from experiments.app.entry import entry
from experiments.reports.within_teacher import write
from experiments.stages import teacher_data, training_sets
from experiments.stages.evaluation import BASE
from experiments.study.plan import announce, refuse_or_go
from experiments.study.study import learn
from rsr.errors import InputError


@entry("within_teacher", WithinConfig, open_groups=True)
def main(config: WithinConfig) -> None:
    metrics = config.within.metrics
    ways = 1 + (1 + len(config.within.shares)) * (1 + len(metrics))
    refuse_or_go(config, f"trains on up to {ways} datasets of each teacher, with {len(config.within.seeds)} seeds")
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    scores, missing = training_sets.scored(config, metrics, "within.metrics")
    for metric, reason in missing.items():
        raise InputError(f"within.metrics: {metric} {reason}")
    if unknown := sorted({*config.within.teachers} - {dataset.teacher for dataset in data}):
        raise InputError(f"within.teachers names {', '.join(unknown)}: there are no data of these")
    arms = [
        arm
        for teacher in config.within.teachers or dict.fromkeys(dataset.teacher for dataset in data)
        for arm in arms_of([dataset for dataset in data if dataset.teacher == teacher], scores, config)
    ]
    announce(config, [arm.dataset for arm in arms], len(config.within.seeds))
    learned = learn(config, [arm.dataset for arm in arms], config.within.seeds)
    if learned.grades.keys() - {BASE}:
        write(arms, learned, config)
    learned.runs.refuse_failed()


if __name__ == "__main__":
    main()
