"""The evaluation stage: trained students, and the base, on the benchmarks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval import benchmarks, performance, samples
from eval.benchmarks import Benchmark
from eval.settings import Way
from experiments.app import memo
from experiments.app.processes import has_gpu
from experiments.app.shared_configs import EvaluateConfig
from experiments.stages import teacher_data
from experiments.stages.students import dtype_of
from rsr.store.artefacts import Artefact, begin, digest, path_safe
from rsr.store.locks import locking
from rsr.student.settings import SPREAD, Loading
from train.base import Base
from train.sft import MODEL

BASE = "base"  # the student before training, in the place of a teacher's name


def load_benchmarks(config: EvaluateConfig) -> list[Benchmark]:
    """The benchmarks as configured.

    Raises:
        InputError: see `eval.benchmarks.load`.
    """
    chosen = config.evaluation
    return [benchmarks.load(name, _data(config), chosen.limit) for name in chosen.benchmarks]


def identities(config: EvaluateConfig) -> list[dict[str, Any]]:
    """What identifies each benchmark; local copies that are known are not loaded.

    Raises:
        InputError: see `eval.benchmarks.load`.
    """

    def find() -> list[dict[str, Any]]:
        return [benchmark.identity() for benchmark in load_benchmarks(config)]

    data, chosen = _data(config), config.evaluation
    copies = [] if data is None else [data / f"{name}.jsonl" for name in chosen.benchmarks]
    if not copies or not all(path.is_file() for path in copies):
        return find()
    inputs = {"benchmarks": chosen.benchmarks, "limit": chosen.limit, "content": [memo.content([p]) for p in copies]}
    return list(memo.memoised(config.paths.outputs, "benchmarks", inputs, find))


def _data(config: EvaluateConfig) -> Path | None:
    """The folder of local copies."""
    if config.evaluation.data is not None:
        return Path(config.evaluation.data)
    return teacher_data.made(config.teachers, config.paths) if config.teachers.recipe else None


def way_of(config: EvaluateConfig) -> Way:
    """What generates the answers: as configured, or as suits the device. Weights that are spread keep to fixed batches."""
    device = config.scoring.device
    on_gpu = has_gpu() if device is None else device != SPREAD and device.startswith("cuda")
    return config.evaluation.chosen_way(on_gpu)


def identity_of_trained(config: EvaluateConfig, trained: Artefact) -> dict[str, Any]:
    """A trained student is known by what it was trained from."""
    return {"trained": digest(trained.key), "dtype": dtype_of(config.student, config.scoring)}


def identity_of_base(config: EvaluateConfig, base: Base) -> dict[str, Any]:
    return {"base": base.identity(), "dtype": dtype_of(config.student, config.scoring)}


def find_grades(
    config: EvaluateConfig, label: str, model: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]
) -> list[Artefact]:
    """The grades of a model on each benchmark, known by its identity; complete or not.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    drawn = find_samples(config, label, model, wanted)
    return [performance.find(artefact, config.paths.outputs) for artefact in drawn]


def find_samples(
    config: EvaluateConfig, label: str, model: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]
) -> list[Artefact]:
    """The samples of a model on each benchmark, known by its identity; complete or not; once they are complete its weights are not needed.

    Raises:
        InputError: see `rsr.store.artefacts.locate`.
    """
    way, root = way_of(config), config.paths.outputs
    return [samples.find(root, label, model, benchmark, config.evaluation, way) for benchmark in wanted]


@locking
def evaluate(
    config: EvaluateConfig,
    label: str,
    base: Base,
    trained: Artefact | None,
    identity: Mapping[str, Any],
    advance: Callable[[int], None] = lambda answers: None,
) -> list[Artefact]:
    """Sample and grade a model on every benchmark; returns the grades.

    Args:
        base: the student that it was trained from, whose chats it understands.
        trained: as what; None is the base itself.

    Raises:
        InputError: see `eval.samples.draw` and `eval.performance.grade`; or the trained weights are damaged.
    """
    wanted = load_benchmarks(config)
    identities_of_wanted = [benchmark.identity() for benchmark in wanted]
    artefacts = [begin(artefact) for artefact in find_samples(config, label, identity, identities_of_wanted)]
    if any(artefact.manifest is None for artefact in artefacts):
        from eval.ways import opened

        loading = Loading(
            template=config.student.template,
            template_variables=config.student.template_variables,
            dtype=dtype_of(config.student, config.scoring),
            attention=config.evaluation.attention,
            device=config.scoring.device,
            revision=base.revision if trained is None else None,
            trust_remote_code=config.scoring.trust_remote_code,
        )
        weights = base.model if trained is None else str(trained.checked(MODEL))
        log = config.paths.outputs / "servers" / f"{path_safe(label)}.log"
        with opened(way_of(config), weights, loading, config.evaluation, name=label, log=log) as (model, sampler):
            artefacts = [
                artefact
                if artefact.manifest
                else samples.draw(artefact, model, sampler, benchmark, config.evaluation, advance)
                for artefact, benchmark in zip(artefacts, wanted, strict=True)
            ]
    return [performance.grade(artefact, config.paths.outputs) for artefact in artefacts]
