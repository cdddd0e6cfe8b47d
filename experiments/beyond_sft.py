"""Does the order of teachers outlive reinforcement? GRPO from the student and from each that a teacher has taught.

    python experiments/beyond_sft.py student=miniature
    python experiments/beyond_sft.py student=miniature reinforcement.steps=200
    python experiments/beyond_sft.py student=qwen3b teachers=FOLDER run=true

Every student is reinforced on the teachers' problems, with 1 for a right answer and 0 for any other, and evaluated again.
Writes a table, conclusions and a figure to results/beyond_sft/<student>/.
"""

import sys

from experiments.app.command_configs import BeyondSftConfig
from experiments.app.entry import entry
from experiments.reports.beyond_sft import report
from experiments.study.plan import refuse_or_go
from experiments.study.reinforcement import reinforce_all
from experiments.study.study import measure


@entry("beyond_sft", BeyondSftConfig, open_groups=True)
def main(config: BeyondSftConfig) -> None:
    answers = config.reinforcement.steps * config.reinforcement.prompts * config.reinforcement.samples
    refuse_or_go(config, f"besides reinforces every student with {answers:,} sampled answers, and evaluates it again")
    print(
        f"This takes more than ten minutes: every student is fine-tuned and then samples {answers:,} answers; "
        "finished stages are reused, and the same command goes on",
        file=sys.stderr,
    )
    taught = measure(config)
    taught.runs.refuse_failed()
    reinforced = reinforce_all(config, taught)
    report(config, taught, reinforced)


if __name__ == "__main__":
    main()
