"""How a student is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

WeightsDtype = Literal["bfloat16", "float16", "float32"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]  # auto: as the device computes (rsr.student.device)
HeadDtype = Literal["model", "float32"]
SPREAD = "auto"  # as a device: weights are spread, transformers' device_map="auto"


@dataclass(frozen=True)
class Loading:
    """How a student is loaded by name; see `rsr.student.student.load`."""

    template: str | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    dtype: Dtype = "auto"
    attention: str | None = None  # of transformers; None: the model's own, sdpa or else eager
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
