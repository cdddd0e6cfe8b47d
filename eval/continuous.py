"""Sampling by transformers' continuous batching: paged attention, and a new request joins whenever another ends.

A token is drawn with its sample's own noise, as in fixed batches: with whom a sample shares a batch changes it by rounding alone.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import FutureRequestState
from transformers.generation.continuous_batching.utils import WorkloadHints

from eval.nucleus import drawn
from eval.sampling import Completion, Request, ended, noise
from eval.settings import Evaluation
from rsr.errors import InputError
from rsr.student.student import Student

PAGE, BATCH_TOKENS = 32, 512  # of the cache and of a step in main memory; on a GPU the library chooses
CACHE_SHARE = 0.8  # of the GPU's free memory, for the cache; the rest is for logits and their sorting


class Continuous:
    """A `eval.sampling.Sampler`.

    Args:
        end_tokens: that end a turn.
    """

    def __init__(self, student: Student, end_tokens: Sequence[int], evaluation: Evaluation) -> None:
        self.student, self.end_tokens, self.evaluation = student, list(end_tokens), evaluation
        self._attention = ""

    def facts(self) -> Mapping[str, Any]:
        return {
            "device": self.student.device.type,
            "concurrency": self.evaluation.concurrency,
            "attention": self._attention,
        }

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        manager = self._manager(requests)
        self._attention = self.student.model.config._attn_implementation
        try:
            manager.warmup()
        except (MemoryError, RuntimeError, ValueError) as error:  # the cache has no room
            raise _failed(error) from error
        manager.start()
        waiting, open_requests = deque(enumerate(requests)), set[int]()
        try:
            while waiting or open_requests:
                # No more than are soon at work: each carries its noise.
                while waiting and len(open_requests) < 2 * self.evaluation.concurrency:
                    place, request = waiting.popleft()
                    self._add(manager, place, request)
                    open_requests.add(place)
                output = manager.get_result(timeout=1)
                if output is None and not manager.is_running():
                    raise _failed(manager.background_thread_status.fatal_error)
                if output is None or not output.is_finished():
                    continue
                if output.error:
                    raise _failed(output.error)
                place = int(output.request_id)
                open_requests.remove(place)
                yield place, ended(output.generated_tokens, self.end_tokens)
        finally:
            manager.stop(block=True, hard_stop=True)
            manager.destroy()

    def _manager(self, requests: Sequence[Request]) -> Any:
        longest = max(len(r.prompt) + r.room for r in requests)
        model: Any = self.student.model
        manager = model.init_continuous_batching(
            generation_config=GenerationConfig(do_sample=False, eos_token_id=self.end_tokens),
            continuous_batching_config=self._config(longest, len(requests)),
            workload_hints=WorkloadHints(
                max_prompt_length=max(len(r.prompt) for r in requests),
                max_generated_length=max(r.room for r in requests),
                num_requests=len(requests),
            ),
        )
        if self.evaluation.temperature > 0:
            sampling = _PagedNucleusSampling(self.evaluation.temperature, self.evaluation.top_p)
            # The library makes its own from a generation configuration, which has no place for noise.
            manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([sampling]))
            manager.logit_processor.tensors_required = 1
        return manager

    def _config(self, longest: int, requests: int) -> ContinuousBatchingConfig:
        at_once = min(self.evaluation.concurrency, requests)
        options: dict[str, Any] = {
            "max_requests_per_batch": at_once,
            "auto_switch_to_flash": self.evaluation.attention is None,
        }
        if self.student.device.type == "cpu":  # where the library would take most of the memory for its cache
            blocks = at_once * (ceil(longest / PAGE) + 1)
            return ContinuousBatchingConfig(
                page_size=PAGE, num_blocks=blocks, max_batch_tokens=max(BATCH_TOKENS, at_once), **options
            )
        return ContinuousBatchingConfig(max_memory_percent=CACHE_SHARE, **options)

    def _add(self, manager: Any, place: int, request: Request) -> None:
        sampling: dict[str, Any] = {}
        if self.evaluation.temperature > 0:
            # One more than its tokens: a step may be prepared before the last one is known to have ended it.
            uniform = noise(request.source, request.room + 1).astype(np.float32)
            sampling = {"uniform": np.minimum(uniform, np.nextafter(np.float32(1), np.float32(0)))}
            sampling["prompt_length"] = len(request.prompt)
        manager.add_request(
            [*request.prompt],
            request_id=str(place),
            max_new_tokens=request.room,
            eos_token_id=self.end_tokens,
            **sampling,
        )


class _PagedNucleusSampling(ContinuousBatchingLogitsProcessor):
    """`eval.nucleus.drawn` with the noise that each request brings."""

    def __init__(self, temperature: float, top_p: float) -> None:
        self.supported_kwargs, self.ignored_kwargs = {"uniform": np.ndarray, "prompt_length": int}, ()
        self.temperature, self.top_p = temperature, top_p

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        uniform = torch.tensor([_of_step(request.state) for request in requests_with_new_token], dtype=torch.float32)
        return uniform.view(dtype=torch.int32)  # as the library transports all arguments

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        uniform = tensor_arg[: scores.size(0)].view(dtype=torch.float32)
        return drawn(scores, uniform, self.temperature, self.top_p)


def _of_step(state: Any) -> float:
    """The number that draws a request's next token; whatever for the library's own requests that warm it up."""
    brought = state.logit_processor_kwargs
    if not brought:
        return 0.0
    # By then the position counts all tokens before the next one, also after a request was put off and taken up again.
    return float(brought["uniform"][state.position_offset - brought["prompt_length"]])


def _failed(reason: object) -> InputError:
    return InputError(
        f"continuous batching failed ({reason}): what was answered is kept; evaluation.way=batches goes without it, "
        "evaluation.concurrency=16 needs less memory"
    )
