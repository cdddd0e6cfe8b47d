"""Score teachers' trajectories under a student.

    python experiments/score.py student=smollm2 teachers=FOLDER
    python experiments/score.py student=PATH_OR_HUB_NAME teachers=FILE scoring.dtype=float32
    python experiments/score.py -m student=smollm2 teachers=FOLDER scoring.dtype=bfloat16,float32
    python experiments/score.py student=smollm2 teachers=FOLDER metrics=all
    python experiments/score.py student=smollm2 teachers=FOLDER 'metrics=[rsr,grad,rule_based_quality]'
    accelerate launch --num_processes 2 experiments/score.py student=smollm2 teachers=FOLDER

Token statistics go to outputs/tokens/ and what other metrics measure to folders of their own there (one per student and
dataset, resumed by the same command), scores of trajectories and datasets to outputs/scores/.
"""

from experiments.app import tracking
from experiments.app.entry import entry
from experiments.app.shared_configs import MetricsConfig
from experiments.stages.metric_scores import score
from rsr.cli.terminal import show_scores


@entry("score", MetricsConfig, open_groups=True)
def main(config: MetricsConfig) -> None:
    tracking.prepare(config.tracking, config.paths.outputs)
    scores = score(config)
    if scores is not None:
        show_scores(scores, config.names)
        tracking.log(config.tracking, f"score {config.student.name}", {"scores": scores.datasets})


if __name__ == "__main__":
    main()
