"""How a student is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WeightsDtype = Literal["bfloat16", "float16", "float32"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]  # auto: as the device computes (rsr.student.device)
HeadDtype = Literal["model", "float32"]
Rendering = Literal["whole", "turn"]
BoundaryTokens = Literal["exclude", "include"]
SPREAD = "auto"  # as a device: weights are spread, transformers' device_map="auto"


@dataclass(frozen=True)
class Loading:
    """How a student is loaded by name; see `rsr.student.student.load`.

    Attributes:
        rendering: of chats of several turns: "whole", as training on the whole conversation sees them, or "turn", every response
            behind its own prefix, as the student would meet it.
        boundary_tokens: tokens that the tokenizer joins from the end of a response and text of the template: left out, or scored.
    """

    template: str | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    rendering: Rendering = "whole"
    boundary_tokens: BoundaryTokens = "exclude"
    dtype: Dtype = "auto"
    attention: str | None = None  # of transformers; None: the model's own, sdpa or else eager
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def of_chats(self) -> dict[str, Any]:
        """How chats are rendered: keywords of `rsr.student.student.load_renderer`."""
        return {
            "template": self.template,
            "template_variables": self.template_variables,
            "rendering": self.rendering,
            "boundary_tokens": self.boundary_tokens,
        }
