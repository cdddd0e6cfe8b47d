"""The loss of fine-tuning: TRL's, in tiles of positions and vocabulary, so that the logits of a long chat never exist whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rsr.errors import InputError

if TYPE_CHECKING:
    from trl.trainer.sft_trainer import SFTTrainer

PROBED = 8  # tokens
CLOSE = 1e-2  # of log-probabilities: wider than any rounding of float32 products, narrower than a cap or a scale


def refuse_other_head(trainer: "SFTTrainer", ids: Sequence[int]) -> None:
    """Refuse a student whose head does something to its logits that the tiles leave out: it would learn under another loss.

    Weights that are spread over devices cannot be asked before the first step, and are not.

    Args:
        ids: the tokens of a training row, of which the first few are tried.

    Raises:
        InputError: the tiled log-probabilities are not those of the student's own logits.
    """
    import torch

    model = trainer.model
    if model is None or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return
    tokens = torch.tensor([list(ids[:PROBED])], device=next(model.parameters()).device)
    with torch.no_grad():
        tiled = model(input_ids=tokens, labels=tokens, fused_lm_head=True).log_probs[0]
        logits = model(input_ids=tokens).logits[0, :-1].float()
    whole = logits.log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
    if not torch.allclose(tiled, whole, rtol=0, atol=CLOSE):
        raise InputError(
            f"{type(model).__name__}: its head does more to logits than the training loss knows (TRL's: a product, a scale, a "
            "cap): take a student of another architecture"
        )
