"""Which candidate to train on, problem by problem? (Tables 6, 15, 16, 18, 20-24; 17 and 19; 11)

    python experiments/trajectory_selection.py                    # the published numbers, and what follows from them
    python experiments/trajectory_selection.py student=qwen3b
    python experiments/trajectory_selection.py student=miniature  # measured here: scores, selects, trains, evaluates
    python experiments/trajectory_selection.py student=miniature 'selection.settings=[fewer_teachers,correct_first]'
    python experiments/trajectory_selection.py student=miniature selection.match=tokens   # arms of equal size as well
    python experiments/trajectory_selection.py student=miniature 'selection.methods=[random,rsr,none]' 'selection.settings=[one_generation]'

Every training set is in outputs/selected/, a line a trajectory. Writes results/trajectory_selection/<student>/.
"""

from experiments.app.command_configs import SelectionConfig
from experiments.app.entry import entry
from experiments.app.shared_configs import reads_published
from experiments.reports import selection_published


@entry("trajectory_selection", SelectionConfig, open_groups=True)
def main(config: SelectionConfig) -> None:
    if reads_published(config.source, config.teachers):
        selection_published.report(config)
    else:
        from experiments.reports import selection_measured

        selection_measured.report(config)


if __name__ == "__main__":
    main()
