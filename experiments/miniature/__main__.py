"""Make a student of the miniature anew, and compare it with the one that is shipped.

    python -m experiments.miniature memoryless|sticky|programs FOLDER

Equal weights need an equal CPU: others round otherwise, and training carries that on.
"""

from pathlib import Path

import click

from experiments.miniature import corpus, student
from experiments.miniature.programs.corpus import CURRICULUM as PROGRAMS
from experiments.miniature.world import SEED
from rsr.student import threads

CURRICULA = {c.name: c for c in (corpus.curriculum("memoryless"), corpus.curriculum("sticky"), PROGRAMS)}


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(list(CURRICULA)))
@click.argument("folder", type=click.Path(path_type=Path))
def main(name: str, folder: Path) -> None:
    threads.set_policy()
    student.make(folder, CURRICULA[name], SEED)
    from transformers import LlamaForCausalLM

    anew, shipped = (LlamaForCausalLM.from_pretrained(path).state_dict() for path in (folder, student.STUDENTS / name))
    weights = sum(w.numel() for w in shipped.values())
    equal = sum(int((anew[key] == w).sum()) for key, w in shipped.items())
    print(f"{equal / weights:.1%} of {weights:,} weights are those of the shipped student")


if __name__ == "__main__":
    main()
