"""Weights of the tokens of a training set, from a token store of the student before training."""

from typing import TYPE_CHECKING

from rsr.data.trajectories import Dataset
from rsr.student.settings import Loading
from rsr.tokens.settings import Scoring
from rsr.tokens.token_weights import WEIGHTS
from train.base import Base
from train.settings import TokenWeights, Training

if TYPE_CHECKING:
    from pathlib import Path


def weights_of_tokens(base: Base, dataset: Dataset, training: Training, root: "Path") -> dict[str, list[float]] | None:
    """By trajectory, of its response tokens in their order, up to `max_length`; None where all count the same.

    The student is scored as it is trained: in float32, and cut at the same length.

    Raises:
        InputError: see `rsr.tokens.score_dataset.score_dataset`.
    """
    if training.token_weights is TokenWeights.equal:
        return None
    from accelerate import PartialState

    from rsr.tokens.late_scorer import LateScorer
    from rsr.tokens.score_dataset import score_dataset

    state = PartialState()
    loading = Loading(
        template=base.template,
        template_variables=base.template_variables,
        rendering=base.rendering,
        boundary_tokens=base.boundary_tokens,
        dtype="float32",
        attention=training.attention,
        revision=base.revision,
        trust_remote_code=base.trust_remote_code,
    )
    scoring = Scoring(max_length=training.max_length, beyond_positions=True, expectations=True)
    store = score_dataset(
        LateScorer(base.model, loading, scoring, name=base.name),
        dataset,
        root,
        process=(state.process_index, state.num_processes),
        barrier=state.wait_for_everyone,
    )
    weigh = WEIGHTS[training.token_weights.value]
    weights: dict[str, list[float]] = {}
    for shard in store:
        of_tokens, offsets = weigh(shard.tokens), shard.tokens.offsets
        weights |= {identity: of_tokens[offsets[i] : offsets[i + 1]].tolist() for i, identity in enumerate(shard.ids)}
    return weights
