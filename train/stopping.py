"""Has a student learned to end its answers? A first look right after training; evaluation says it of every answer."""

from pathlib import Path
from typing import Any

from train.rows import Rows

MOST = 512  # tokens of an answer that are waited for


def tokens_to_stop_within(rows: Rows) -> int:
    """Tokens of an answer within which it is seen whether it ends: `MOST`, or what the longest chat leaves behind the prompts."""
    longest, width = max(len(ids) for ids in rows.input_ids), max(len(prompt) for prompt in rows.prompts)
    return max(1, min(MOST, longest - width))


def rate_of_stopping(
    model_folder: Path, rows: Rows, within: int, attention: str | None, *, trust_remote_code: bool
) -> float | None:
    """Share of the first training prompts whose greedy answer, all in one batch, ends within so many tokens.

    None where no answer that was trained on these prompts ends within them either: then it would say nothing.
    """
    trained = [labels[len(prompt) :][:within] for prompt, labels in zip(rows.prompts, rows.labels, strict=False)]
    if not any(rows.eot in answer for answer in trained):
        return None
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        model_folder, attn_implementation=attention, trust_remote_code=trust_remote_code
    )
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    width = max(len(prompt) for prompt in rows.prompts)
    padding = [width - len(prompt) for prompt in rows.prompts]
    pad = int(rows.eot == 0)  # a token that ends nothing
    ids = [[pad] * before + [*prompt] for before, prompt in zip(padding, rows.prompts, strict=True)]
    mask = [[0] * before + [1] * (width - before) for before in padding]
    answers = model.generate(
        torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        max_new_tokens=within,
        do_sample=False,
        pad_token_id=pad,
    )[:, width:]
    return float((answers == rows.eot).any(dim=1).float().mean())
