"""How scores are computed. The command line, `rsr.Settings` and the configurations of experiments take defaults from here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsr.errors import InputError
from rsr.student.settings import HeadDtype, Loading

if TYPE_CHECKING:
    from rsr.student.student import AnyStudent

PAPER_MAX_LENGTH = 32_768


@dataclass(frozen=True)
class Scoring:
    """How scores are computed; what shapes them is part of their identity.

    Attributes:
        max_length: tokens of a chat that are kept, cut on the right; None takes the paper's 32,768, or all positions of
            a model that has fewer.
        beyond_positions: allow a max_length beyond the model's positions.
        head_dtype: "model" compares logits in the model's dtype, as the reference does; "float32" computes the head in
            float32, which breaks ties that bfloat16 makes.
        token_budget: padded tokens per forward pass; halved when memory runs out.
        head_chunk: logits (positions x vocabulary) in memory at a time.
    """

    max_length: int | None = None
    beyond_positions: bool = False
    head_dtype: HeadDtype = "model"
    token_budget: int = 2_048
    head_chunk: int = 2**24

    def __post_init__(self) -> None:
        for name in ("max_length", "token_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} is too small: the least is 1")

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

    What `Loading` says does not apply to a model that is passed in, but for template and template_variables.
    """
