"""Where RSR goes wrong: each known mechanism with a minimal example, measured beside its closed form.

    python experiments/failures.py                      # the miniature's student, in its own words
    python experiments/failures.py student=smollm2 examples=50   # a real student of 135M parameters, in English

    python experiments/failures.py scoring.expectations=true     # calibrated RSR and LARK's learnability beside RSR

Three mechanisms: digits that cannot be known have a bounded rank; fluent text has RSR 1 / mean surprisal; tokens drawn from
a small closed set have RSR (k + 1) / (2 ln k). Writes results/failures/<student>/.
"""

from experiments.analysis import failure_examples
from experiments.app import result_folder
from experiments.app.command_configs import FailuresConfig
from experiments.app.conclusions import conclude
from experiments.app.entry import entry
from experiments.reports.failures import closed, digits, fluent
from experiments.stages import students
from experiments.stages.scoring import settings_of


@entry("failures", FailuresConfig, open_groups=True)
def main(config: FailuresConfig) -> None:
    from rsr.tokens.engine import Scorer

    scorer = Scorer(students.load(config.student, config.scoring, config.paths), settings_of(config.scoring))
    own_words = config.student.brings.get("teachers") == "miniature"
    shown = (failure_examples.miniature if own_words else failure_examples.english)(
        config.examples, config.bootstrap.seed
    )
    folder = result_folder.unmixed(
        result_folder.root_of(config.student, config.paths) / "failures" / config.student.name
    )
    mechanisms = [mechanism(scorer, shown, config, folder) for mechanism in (digits, fluent, closed)]
    conclude(
        folder,
        f"Where RSR goes wrong, {config.student.name}",
        [conclusion for one in mechanisms for conclusion in one.conclusions],
        [part for one in mechanisms for part in one.parts],
        {f"{one.name}.csv": one.table for one in mechanisms},
        examples=config.examples,
        dtype=str(scorer.student.identity["dtype"]),
    )


if __name__ == "__main__":
    main()
