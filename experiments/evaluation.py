"""The evaluation stage: trained students, and the base, on the benchmarks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval import benchmarks, performance, samples
from eval.benchmarks import Benchmark
from experiments import datasets
from experiments.config import EvaluateConfig
from rsr import student as students
from rsr.artefacts import Artefact, begin, digest
from rsr.claims import claiming
from train import Base

BASE = "base"  # the student before training, in the place of a teacher's name


def load_benchmarks(config: EvaluateConfig) -> list[Benchmark]:
    """The benchmarks as configured.

    Raises:
        InputError: see `eval.benchmarks.load`.
    """
    chosen = config.evaluation
    if chosen.data is not None:
        data: Path | None = Path(chosen.data)
    else:
        data = datasets.made(config.teachers, config.paths) if config.teachers.recipe else None
    return [benchmarks.load(name, data, chosen.limit) for name in chosen.benchmarks]


def identity_of_trained(config: EvaluateConfig, trained: Artefact) -> dict[str, Any]:
    """A trained student is known by what it was trained from."""
    return {"trained": digest(trained.key), "dtype": _dtype(config)}


def identity_of_base(config: EvaluateConfig, base: Base) -> dict[str, Any]:
    return {"base": base.identity(), "dtype": _dtype(config)}


def find_grades(
    config: EvaluateConfig, label: str, model: Mapping[str, Any], wanted: Sequence[Benchmark]
) -> list[Artefact]:
    """The grades of a model on each benchmark, complete or not.

    Raises:
        InputError: see `rsr.artefacts.locate`.
    """
    drawn = find_samples(config, label, model, wanted)
    return [performance.find(artefact, config.paths.outputs) for artefact in drawn]


def find_samples(
    config: EvaluateConfig, label: str, model: Mapping[str, Any], wanted: Sequence[Benchmark]
) -> list[Artefact]:
    """The samples of a model on each benchmark, complete or not; once they are complete its weights are not needed.

    Raises:
        InputError: see `rsr.artefacts.locate`.
    """
    return [samples.find(config.paths.outputs, label, model, benchmark, config.evaluation) for benchmark in wanted]


@claiming
def evaluate(
    config: EvaluateConfig,
    label: str,
    base: Base,
    model: str,
    identity: Mapping[str, Any],
    advance: Callable[[int], None] = lambda answers: None,
) -> list[Artefact]:
    """Sample and grade a model on every benchmark; returns the grades.

    Args:
        base: the student that it was trained from, whose chats it understands.
        model: its folder or hub name.

    Raises:
        InputError: see `eval.samples.draw` and `eval.performance.grade`.
    """
    wanted = load_benchmarks(config)
    found = [begin(artefact) for artefact in find_samples(config, label, identity, wanted)]
    if any(artefact.manifest is None for artefact in found):
        from eval.model import StudentLM

        student = students.load(
            model,
            name=label,
            revision=base.revision if model == base.model else None,
            dtype=_dtype(config),
            attention=config.evaluation.attention,
            device=config.scoring.device,
            template=config.student.template,
            template_variables=config.student.template_variables,
            trust_remote_code=config.scoring.trust_remote_code,
        )
        lm = StudentLM(student, config.evaluation.batch_size, config.evaluation.seed, advance)
        found = [
            artefact if artefact.manifest else samples.draw(artefact, lm, benchmark, config.evaluation)
            for artefact, benchmark in zip(found, wanted, strict=True)
        ]
    return [performance.grade(artefact, config.paths.outputs) for artefact in found]


def _dtype(config: EvaluateConfig) -> Any:
    return (config.scoring.dtype or config.student.dtype).value
