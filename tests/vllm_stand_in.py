"""A stand-in for vLLM 0.33.0: the part of its interface that scoring uses, with its refusals, over a real model."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import torch
from transformers import AutoModelForCausalLM

__version__ = "0.33.0"


def TokensPrompt(prompt_token_ids: list[int]) -> dict[str, list[int]]:
    return {"prompt_token_ids": prompt_token_ids}


@dataclass
class SamplingParams:
    max_tokens: int | None = 16
    prompt_logprobs: int | None = None
    detokenize: bool = True
    flat_logprobs: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


class LLM:
    def __init__(
        self,
        model: str,
        *,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        revision: str | None = None,
        max_model_len: int | None = None,
        max_num_batched_tokens: int | None = None,
        enable_prefix_caching: bool | None = None,
        logprobs_mode: str = "raw_logprobs",
    ) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        positions = self.model.config.max_position_embeddings
        self.max_model_len = positions if max_model_len is None else max_model_len
        if self.max_model_len > positions:
            raise ValueError(f"User-specified max_model_len ({max_model_len}) is greater than {positions}")

    def generate(self, prompts: Sequence[dict], sampling_params: SamplingParams, *, use_tqdm: bool = True) -> list:
        assert sampling_params.prompt_logprobs == 0  # what is built here
        return [self._output(prompt["prompt_token_ids"]) for prompt in prompts]

    @torch.inference_mode()
    def _output(self, ids: list[int]) -> SimpleNamespace:
        if len(ids) >= self.max_model_len:
            raise ValueError(f"The prompt ({len(ids)}) is longer than {self.max_model_len}")
        logits = self.model(torch.tensor([ids])).logits[0, :-1]
        targets = torch.tensor(ids[1:])[:, None]
        logprobs = logits.float().log_softmax(-1).gather(-1, targets).flatten().tolist()
        ranks = (logits >= logits.gather(-1, targets)).sum(-1).tolist()
        given = [{i: Logprob(p, r)} for i, p, r in zip(ids[1:], logprobs, ranks, strict=True)]
        return SimpleNamespace(prompt_token_ids=ids, prompt_logprobs=[None, *given], finished=True)


def modules() -> dict[str, ModuleType]:
    """What stands in sys.modules where vLLM is installed."""
    vllm, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
    of = {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": TokensPrompt, "__version__": __version__}
    vllm.__dict__.update(of)
    platforms.__dict__["current_platform"] = SimpleNamespace(device_type="cpu")
    return {"vllm": vllm, "vllm.platforms": platforms}
