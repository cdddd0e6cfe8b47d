"""Score teachers' trajectories under a student.

    python experiments/score.py student=smollm2 teachers=FOLDER
    python experiments/score.py student=PATH_OR_HUB_NAME teachers=FILE scoring.dtype=float32
    python experiments/score.py -m student=smollm2 teachers=FOLDER scoring.dtype=bfloat16,float32
    accelerate launch --num_processes 2 experiments/score.py student=smollm2 teachers=FOLDER

Token statistics go to outputs/tokens/ (one store per student and dataset, resumed by the same command), scores of
trajectories and datasets to outputs/scores/.
"""

from experiments.config import ScoreConfig
from experiments.entry import entry
from experiments.scoring import score
from rsr.display import show_scores


@entry("score", ScoreConfig, open_groups=True)
def main(config: ScoreConfig) -> None:
    scores = score(config)
    if scores is not None:
        show_scores(scores)


if __name__ == "__main__":
    main()
