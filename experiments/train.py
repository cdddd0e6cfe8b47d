"""Fine-tune a student on each of its teachers' datasets.

    python experiments/train.py student=miniature
    python experiments/train.py student=PATH_OR_HUB_NAME teachers=FOLDER student.training.epochs=3
    python experiments/train.py -m student=miniature student.training.seed=0,1,2
    accelerate launch --config_file configs/accelerate/fsdp.yaml experiments/train.py student=qwen7b

Trained students go to outputs/trained/, each as a plain model folder; the same command goes on from the last checkpoint.
"""

from rich.console import Console
from rich.progress import Progress, TaskID

from experiments.app.entry import entry
from experiments.app.shared_configs import ScoreConfig
from experiments.stages import teacher_data
from experiments.stages.training import train
from rsr.store.artefacts import Artefact


@entry("train", ScoreConfig, open_groups=True)
def main(config: ScoreConfig) -> None:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for dataset in teacher_data.load(config.teachers, config.scoring, config.paths):
            bar = progress.add_task(f"training on {dataset.name}")

            def step_done(step: int, steps: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=step, total=steps)

            trained = train(config, dataset, step_done)
            progress.remove_task(bar)
            if trained.manifest is not None:
                print(_line(dataset.name, trained))


def _line(name: str, trained: Artefact) -> str:
    facts = trained.facts
    counts = {kind: facts["counts"][kind] for kind in ("truncated", "dropped", "malformed") if facts["counts"][kind]}
    said = "".join(f", {count} {kind}" for kind, count in counts.items())
    seen = facts["stopped"]
    stopped = f"{seen['rate']:.0%} of {seen['prompts']} answers end within {seen['within']} tokens, "
    stopped = "" if seen["rate"] is None else stopped
    return (
        f"{name}: {facts['counts']['rows']} trajectories{said}, {facts['steps']} steps, loss {facts['loss']:.3f}, "
        f"{stopped}{facts['seconds']:.0f} s: {trained.path}"
    )


if __name__ == "__main__":
    main()
