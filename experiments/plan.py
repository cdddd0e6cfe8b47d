"""What would a measured study cost, before anything is spent?

    python experiments/plan.py student=qwen3b plan.card=h100       # the paper's study: published lengths, no hub needed
    python experiments/plan.py student=all plan.card=h100          # all five students, hours of each stage
    python experiments/plan.py student=qwen7b teachers=FOLDER
    python experiments/plan.py student=qwen14b plan.card=h200 plan.price=2.5 plan.devices=16

Prints the study's cells and which are done, and an estimate of tokens, hours, cost, disk and memory, with what it assumes
(configuration group `plan`) and what would make it cheaper. Nothing of it is run; a student or teachers with a recipe are made
first, if they are not there.
"""

from experiments.app.entry import entry
from experiments.app.shared_configs import StudyConfig
from experiments.study import students_plan
from experiments.study.plan import plan


@entry("plan", StudyConfig, open_groups=True)
def main(config: StudyConfig) -> None:
    lines = students_plan.plan(config) if config.student.name == students_plan.ALL else plan(config)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
