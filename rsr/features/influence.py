"""Influence of trajectories on held-out queries, by EK-FAC influence functions (arXiv 2308.03296).

Kronfluence fits the curvature of a reference model, the student fine-tuned on a random selection. The gradient of the
queries' mean loss, divided by that curvature, is a vector; the influence of a trajectory is its product with the
trajectory's own gradient, so that each trajectory costs one backward pass whatever the number of queries. Losses are sums
over response tokens; a positive influence lowers the queries' loss.
"""

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Columns, Row, render
from rsr.features.gradients import streaming, summed_loss
from rsr.store.artefacts import Artefact, digest, find_or_begin, writing
from rsr.store.locks import locking
from rsr.student.chat import RenderedChat
from rsr.student.device import places

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

STAGE = "curvature"
DIRECTION, FACTORS = "direction.safetensors", "kronfluence"
COLUMNS: Columns = {"influence": pl.Float64()}
HEURISTIC_DAMPING = 0.1  # of the mean eigenvalue: kronfluence's choice for language models


@dataclass(frozen=True)
class InfluenceSettings:
    """What influence is taken over.

    Attributes:
        modules: pattern of linear modules; kronfluence's example for language models takes the MLPs.
        examples: trajectories that the curvature is fitted to, drawn from all that are scored.
        seed: of that draw, and of the labels that are sampled for the Fisher matrix.
    """

    modules: str = "*.mlp.*"
    examples: int = 512
    seed: int = 0


class Influence:
    """Influence of each trajectory (a `rsr.features.extractor.FeatureExtractor`).

    Args:
        scorer: of the reference model.
        direction: see `query_direction`.
    """

    stage = "influence"
    columns = COLUMNS
    part = 8
    workers = 1

    def __init__(self, scorer: "Scorer", direction: Artefact) -> None:
        self.scorer, self.artefact = scorer, direction
        self.direction = load_file(direction.checked(DIRECTION))
        modules = {name: scorer.student.model.get_submodule(name) for name in self.direction}
        self.weights = {name: _weight(module) for name, module in modules.items()}
        self.direction = {name: part.to(self.weights[name].device) for name, part in self.direction.items()}

    def identity(self) -> dict[str, Any]:
        return {"version": 2, "student": dict(self.scorer.student.identity), "direction": digest(self.artefact.key)}

    def __call__(self, trajectory: Trajectory) -> Row:
        rendered, row = render(self.scorer.student, trajectory, self.scorer.max_length)
        chats = [chat for chat in rendered if chat.positions()]
        if not chats:
            return row
        products: list[Tensor] = []

        def multiply(name: str, gradient: Tensor) -> None:
            products.append((gradient * self.direction[name]).sum(dtype=torch.float64))

        with streaming(self.scorer.student.model, self.weights, multiply):
            for chat in chats:
                summed_loss(self.scorer, chat.ids, chat.positions()).backward()
        return row | {"influence": sum(p.item() for p in products), "processed": sum(len(c.ids) for c in chats)}


@locking
def query_direction(
    load: "Callable[[], Scorer]", data: Sequence[Dataset], queries: Dataset, settings: InfluenceSettings, root: Path
) -> Artefact:
    """The gradient of the queries' mean loss, divided by the curvature (H^-1 g), of each module; made once.

    Args:
        load: loads the reference model; kronfluence changes the one that it gets.
        data: what is scored; the curvature is fitted to a sample of it.
        queries: right solutions of problems that are held out, never a benchmark.

    Raises:
        InputError: kronfluence is not installed; a query's problem is among the data; a trajectory cannot be rendered; or
            the modules are not what can be handled.
    """
    if find_spec("kronfluence") is None:
        raise InputError("influence needs kronfluence, installed without its dependencies (see docs/baselines.md)")
    shared = {t.problem for d in data for t in d.trajectories} & {t.problem for t in queries.trajectories}
    if shared:
        raise InputError(f"{len(shared)} queries are among the scored problems, such as {min(shared)}: hold them out")
    scorer = load()
    if len(places(scorer.student.model)) > 1:
        raise InputError("kronfluence fits the curvature on one device: device=auto has no place with influence")
    key = {
        "stage": STAGE,
        "version": 2,
        "student": dict(scorer.student.identity),
        "scoring": {"max_length": scorer.max_length},
        **asdict(settings),
        "data": [d.digest() for d in data],
        "queries": queries.digest(),
    }
    artefact = find_or_begin(root, STAGE, f"{scorer.student.name}-{queries.name}", key)
    if artefact.manifest is not None:
        return artefact
    modules = _modules(scorer.student.model, settings.modules)
    pool = [t for d in data for t in d.trajectories]
    drawn = np.random.default_rng(settings.seed).permutation(len(pool))[: settings.examples]
    began = time.perf_counter()
    examples, asked = _rendered(scorer, [pool[i] for i in sorted(drawn)]), _rendered(scorer, queries.trajectories)
    gradient = _mean_gradient(scorer, modules, asked)
    factors = _factors(scorer, list(modules), examples, settings.seed, artefact.path / FACTORS)
    direction = {
        name: _divide(g, {kind: matrices[name] for kind, matrices in factors.items()}) for name, g in gradient.items()
    }
    with writing(artefact.path):
        save_file(direction, artefact.path / DIRECTION)
    return artefact.complete(
        FACTORS,
        student=scorer.student.name,
        modules=list(modules),
        counts={"examples": len(examples), "queries": len(asked)},
        seconds=round(time.perf_counter() - began, 3),
        tokens_in_those_seconds=sum(len(chat.ids) for chat in [*examples, *asked]),
    )


def _modules(model: nn.Module, pattern: str) -> dict[str, nn.Linear]:
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen = {name: module for name, module in linear.items() if fnmatch(name, pattern)}
    if not chosen:
        raise InputError(f"no linear module fits {pattern!r}; there are {', '.join(list(linear)[:5])}, ...")
    biased = [name for name, module in chosen.items() if module.bias is not None]
    if biased:
        raise InputError(f"{biased[0]} has a bias, which influence does not handle: choose other modules")
    return chosen


def _weight(module: nn.Module) -> nn.Parameter:
    assert isinstance(module, nn.Linear) and isinstance(module.weight, nn.Parameter)
    return module.weight


def _rendered(scorer: "Scorer", trajectories: Sequence[Trajectory]) -> list[RenderedChat]:
    chats = [chat for t in trajectories for chat in render(scorer.student, t, scorer.max_length)[0]]
    return [chat for chat in chats if chat.positions()]


def _mean_gradient(
    scorer: "Scorer", modules: dict[str, nn.Linear], queries: Sequence[RenderedChat]
) -> dict[str, Tensor]:
    sums = {name: torch.zeros_like(module.weight, dtype=torch.float32) for name, module in modules.items()}

    def add(name: str, gradient: Tensor) -> None:
        sums[name] += gradient / len(queries)

    with streaming(scorer.student.model, {name: _weight(module) for name, module in modules.items()}, add):
        for chat in queries:
            summed_loss(scorer, chat.ids, chat.positions()).backward()
    return {name: total.cpu() for name, total in sums.items()}


def _factors(
    scorer: "Scorer", modules: list[str], examples: Sequence[RenderedChat], seed: int, folder: Path
) -> dict[str, dict[str, Tensor]]:
    """Eigenvectors of activations and gradients, and corrected eigenvalues, by kind and module."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.task import Task

    class Response(Task):  # type: ignore[misc]
        def compute_train_loss(self, batch: dict[str, Tensor], model: nn.Module, sample: bool = False) -> Tensor:
            return summed_loss(scorer, batch["ids"][0].tolist(), batch["positions"][0].tolist(), sample=sample)

        def compute_measurement(self, batch: dict[str, Tensor], model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return modules

    device = scorer.student.device
    analyzer = Analyzer(
        "curvature",
        prepare_model(scorer.student.model, Response()),
        Response(),
        cpu=device.type == "cpu",
        disable_tqdm=not sys.stderr.isatty(),
        output_dir=str(folder),
    )
    data = [{"ids": torch.tensor(chat.ids), "positions": torch.tensor(chat.positions())} for chat in examples]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what kronfluence calls in torch
        _fit(analyzer, data, seed)
    return dict(analyzer.load_all_factors("ekfac"))


def _fit(analyzer: Any, data: list[dict[str, Tensor]], seed: int) -> None:
    from kronfluence.arguments import FactorArguments

    options: dict[str, Any] = dict(per_device_batch_size=1, factor_args=FactorArguments("ekfac"))
    # Sampled labels are the same whether or not an earlier step was found done.
    torch.manual_seed(seed)
    analyzer.fit_covariance_matrices("ekfac", data, **options)
    analyzer.perform_eigendecomposition("ekfac", factor_args=options["factor_args"])
    torch.manual_seed(seed)
    analyzer.fit_lambda_matrices("ekfac", data, **options)


def _divide(gradient: Tensor, factors: dict[str, Tensor]) -> Tensor:
    """A gradient (out, in) in the eigenbasis of the curvature, divided by the damped eigenvalues, and back."""
    left, right = factors["gradient_eigenvectors"].float(), factors["activation_eigenvectors"].float()
    values = factors["lambda_matrix"] / factors["num_lambda_processed"]
    values = values + HEURISTIC_DAMPING * values.mean()
    return (left @ ((left.T @ gradient @ right) / values) @ right.T).contiguous()
