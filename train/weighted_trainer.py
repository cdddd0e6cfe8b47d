"""TRL's trainer with a weight for each token.

TRL 1.16 has no weights. Its loss is the sum of the tokens' losses over the number of tokens in a step, over all devices and
accumulated batches. Here each of these losses is multiplied by its weight, and all else stays TRL's: with weights of 1 the numbers are
the same to the last digit.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.sft_trainer import SFTTrainer

WEIGHTS = "weights"  # the column, as long as the labels


class WeightedTrainer(SFTTrainer):
    """Takes rows with a column `WEIGHTS` besides TRL's."""

    _signature_columns: Any  # those that reach the collator

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collate: Any = self.data_collator
        self.data_collator = partial(_collated, collate)

    def _set_signature_columns_if_needed(self) -> None:
        trl: Any = super()
        trl._set_signature_columns_if_needed()
        if WEIGHTS not in self._signature_columns:
            self._signature_columns += [WEIGHTS]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's, of the weighted logarithms of the tokens' probabilities."""
        trl: Any = super()
        weights = inputs.pop(WEIGHTS)[:, 1:]  # as TRL shifts labels

        def weighted(**given: Any) -> Any:
            outputs = model(**given)
            outputs.log_probs = outputs.log_probs * weights
            return outputs

        return trl.compute_loss(weighted, inputs, *args, **kwargs)


def _collated(collate: Callable[[Sequence[Any]], dict[str, Any]], rows: Sequence[Any]) -> dict[str, Any]:
    """TRL's batch, and weights that are padded as its labels are."""
    weights = [torch.tensor(row[WEIGHTS], dtype=torch.float32) for row in rows]
    return collate(rows) | {WEIGHTS: pad_sequence(weights, batch_first=True)}
