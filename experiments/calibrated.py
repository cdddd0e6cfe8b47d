"""Does calibrated RSR order teachers better than RSR, surprisal and LARK's learnability? The pre-registered comparison.

    python experiments/calibrated.py student=miniature
    python experiments/calibrated.py student=miniature 'calibrated.seeds=[0,1,2]'

Spearman of each with accuracy after training, and how much larger calibrated RSR's is, over problems and over teachers
(docs/calibrated_rsr.md, H4). Writes results/calibrated/<student>/.
"""

from dataclasses import replace

from experiments.analysis.calibrated import COMPARED, comparison
from experiments.app.command_configs import CalibratedConfig
from experiments.app.entry import entry
from experiments.reports.calibrated import write
from experiments.stages import metric_scores, teacher_data
from experiments.study.plan import announce, refuse_or_go
from experiments.study.study import learn


@entry("calibrated", CalibratedConfig, open_groups=True)
def main(config: CalibratedConfig) -> None:
    seeds = config.calibrated.seeds
    refuse_or_go(config, f"trains on the dataset of each teacher, with {len(seeds)} seeds")
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    announce(config, data, len(seeds))
    scores = metric_scores.score_apart(replace(config, metrics=[*COMPARED]))
    learned = learn(config, data, seeds)
    learned.runs.refuse_failed()
    write(comparison(scores.trajectories, learned.answers(), config.bootstrap), config)


if __name__ == "__main__":
    main()
