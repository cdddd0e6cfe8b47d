"""How scores are computed. The command line, `rsr.Settings` and the configurations of experiments take defaults from here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsr.errors import InputError
from rsr.student.settings import HeadDtype, Loading

if TYPE_CHECKING:
    from rsr.student.student import AnyStudent

PAPER_MAX_LENGTH = 32_768
CHARACTERS = 3  # of a token, roughly: for shards and plans, which no tokenizer is asked about
CPU_TOKENS, CPU_LOGITS = 2_048, 2**24
HIDDEN_STATES, GPU_LOGITS = 2**24, 2**28  # numbers of a batch on a GPU; logits take some 3 GB with their float32 copies


@dataclass(frozen=True)
class Scoring:
    """How scores are computed; what shapes them is part of their identity.

    Attributes:
        max_length: tokens of a chat that are kept, cut on the right; None takes the paper's 32,768, or all positions of
            a model that has fewer.
        beyond_positions: allow a max_length beyond the model's positions.
        head_dtype: "model" compares logits in the model's dtype, as the reference does; "float32" computes the head in
            float32, which breaks ties that bfloat16 makes.
        expectations: keep the expected clipped rank of each position too, for the metrics that need it; it takes longer.
        token_budget: padded tokens per forward pass, halved when memory runs out; None takes what suits the device.
        head_chunk: logits (positions x vocabulary) in memory at a time; None takes what suits the device.
    """

    max_length: int | None = None
    beyond_positions: bool = False
    head_dtype: HeadDtype = "model"
    expectations: bool = False
    token_budget: int | None = None
    head_chunk: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "token_budget", "head_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} is too small: the least is 1")

    def token_budget_on(self, device: str, width: int) -> int:
        """Padded tokens per forward pass, for a kind of device and the width of the model's hidden states.

        A small model keeps a GPU busy only over many tokens, a large one gains nothing beyond some thousand (docs/scale.md).
        On a CPU more tokens only leave its cache.
        """
        if self.token_budget is not None:
            return self.token_budget
        return CPU_TOKENS if device == "cpu" else max(CPU_TOKENS, HIDDEN_STATES // width)

    def head_chunk_on(self, device: str) -> int:
        """Logits in memory at a time, for a kind of device."""
        if self.head_chunk is not None:
            return self.head_chunk
        return CPU_LOGITS if device == "cpu" else GPU_LOGITS

    def max_length_for(self, student: "AnyStudent") -> int:
        """Tokens of a chat that are kept for this student.

        Raises:
            InputError: more than the model has positions for, without `beyond_positions`.
        """
        positions = student.max_positions
        if self.max_length is None:
            return min(PAPER_MAX_LENGTH, positions or PAPER_MAX_LENGTH)
        if positions and self.max_length > positions and not self.beyond_positions:
            raise InputError(
                f"max_length {self.max_length} is beyond the {positions} positions of {student.name}: lower it, or ask for "
                "it with beyond_positions=true"
            )
        return self.max_length


@dataclass(frozen=True)
class Settings(Loading, Scoring):
    """How a student is loaded and its scores are computed; the defaults are those of the study.

    What `Loading` says does not apply to a model that is passed in, but for how chats are rendered.
    """
