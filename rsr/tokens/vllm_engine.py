"""vLLM as another engine: rank and surprisal of response tokens from the log-probabilities that it gives of a prompt.

Written from the source of vLLM 0.33.0 and tested with a stand-in for it; not run with vLLM itself (docs/cluster.md). It gives
no entropy: that is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from rsr.errors import InputError
from rsr.student.chat import RenderedChat
from rsr.student.device import weights_dtype
from rsr.student.identity import identity_of
from rsr.student.pretrained import check, load_config, positions_of
from rsr.student.settings import BoundaryTokens, Dtype, Loading, Rendering
from rsr.student.student import DescribedStudent, load_renderer
from rsr.tokens.engine import NotFinite
from rsr.tokens.settings import Scoring
from rsr.tokens.tokens import Tokens

# The rank counts entries at least as large as the token, itself among them, so equal ones raise it: not the reference's rule.
TIE_RULE = "vllm-at-least-as-large"
# Tokens per forward pass. One of vLLM's runners holds float32 log-probabilities of all of them: 1.2 GB of 152k entries.
BATCHED_TOKENS = 2_048


class VllmScorer:
    """Scores rendered chats under one student with vLLM, in the place of `rsr.tokens.engine.Scorer`.

    Args:
        model: see `rsr.student.student.load`, also of what is not said here.
        max_length: see `rsr.tokens.settings.Scoring`.

    Attributes:
        token_budget: tokens per forward pass, which vLLM fills by itself.

    Raises:
        InputError: vLLM is not installed; the student cannot be read; or max_length is beyond its positions.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        dtype: Dtype = "auto",
        template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
        rendering: Rendering = "whole",
        boundary_tokens: BoundaryTokens = "exclude",
        trust_remote_code: bool = False,
        max_length: int | None = None,
    ) -> None:
        check(model)
        self.vllm = _vllm()
        source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        chosen = Loading(template, template_variables or {}, rendering, boundary_tokens).of_chats
        renderer = load_renderer(model, **chosen, **source)
        positions = positions_of(load_config(model, **source))
        place = import_module("vllm.platforms").current_platform.device_type
        weights = weights_dtype(dtype, place)
        computed = {"dtype": weights, "attention": "vllm", "device": place}
        self.student = DescribedStudent(
            name or Path(model).absolute().name,
            renderer,
            {**identity_of(model, renderer, **source), **computed},
            positions - 1 if positions else None,
        )
        self.max_length = Scoring(max_length=max_length).max_length_for(self.student)
        self.token_budget = BATCHED_TOKENS
        self.settings = source | {"model": str(model), "dtype": weights}

    @cached_property
    def llm(self) -> Any:
        """The engine: started when something is scored, for it takes what memory the device has."""
        try:
            return self.vllm.LLM(
                max_model_len=self.max_length + 1,
                max_num_batched_tokens=self.token_budget,
                enable_prefix_caching=False,  # of tokens in the cache there would be no log-probabilities
                logprobs_mode="raw_logprobs",
                **self.settings,
            )
        except (ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{self.student.name}: vLLM cannot load it: {reason}") from error

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that shape the scores."""
        return {"max_length": self.max_length, "tie_rule": TIE_RULE}

    @property
    def computed_with(self) -> dict[str, Any]:
        """What shapes the scores within rounding only."""
        return {"vllm": self.vllm.__version__, "device": self.student.identity["device"]}

    def score(self, chats: Sequence[RenderedChat], done: Callable[[int], None] = lambda chat: None) -> Tokens:
        """Statistics of the response tokens of chats, in their order; see `rsr.tokens.engine.Scorer.score`.

        Raises:
            InputError: vLLM cannot load the student, or gives other than one log-probability per token.
            NotFinite: log-probabilities that are not finite, naming chat (by its index) and token.
        """
        prompts = [self.vllm.TokensPrompt(prompt_token_ids=list(chat.ids)) for chat in chats]
        # With 0 it gives the token of the prompt alone, not the likeliest besides. It insists on generating a token.
        sampling = self.vllm.SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, flat_logprobs=True)
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False) if prompts else []
        ranks: list[int] = []
        surprisals: list[float] = []
        offsets = [0]
        for i, (chat, output) in enumerate(zip(chats, outputs, strict=True)):
            given = output.prompt_logprobs
            if given is None or len(given) != len(chat.ids):
                raise InputError(
                    f"vLLM {self.vllm.__version__} gives log-probabilities of {len(given or [])} of {len(chat.ids)} tokens: "
                    "it is not as the version that this was written for (docs/cluster.md)"
                )
            tokens = [given[at][chat.ids[at]] for at in chat.positions()]
            for at, token in enumerate(tokens):
                if not np.isfinite(token.logprob):
                    raise NotFinite(i, at)
                ranks.append(token.rank)
                surprisals.append(-token.logprob)
            offsets.append(len(ranks))
            done(i)
        return Tokens(
            rank=np.array(ranks, np.uint32),
            surprisal=np.array(surprisals, np.float32),
            entropy=np.full(len(ranks), np.nan, np.float32),
            offsets=np.array(offsets, np.int64),
        )


def _vllm() -> Any:
    try:
        return import_module("vllm")
    except ImportError as error:
        raise InputError(
            f"vLLM cannot be imported ({error}): install the extra vllm in an environment of its own (docs/cluster.md)"
        ) from error
