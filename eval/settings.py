"""Settings of an evaluation."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from rsr.errors import InputError


@dataclass
class Evaluation:
    """Sampling on benchmarks; the defaults are the paper's."""

    benchmarks: list[str] = field(default_factory=lambda: ["aime25", "aime24", "amc23", "math500"])
    data: str | None = None  # folder of local copies, BENCHMARK.jsonl; null: the hub
    samples: int = 4  # of each problem
    temperature: float = 0.6  # 0: greedy
    top_p: float = 0.95
    max_new_tokens: int = 32768
    seed: int = 0
    limit: int | None = None  # the first problems of each benchmark only
    attention: str | None = None  # null: the model's own, sdpa or else eager
    batch_size: int = 16  # samples that are generated together; changes no sample but for rounding

    def __post_init__(self) -> None:
        for name in ("samples", "max_new_tokens", "batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"evaluation.{name}={value} is too small: the least is 1")
        if not self.benchmarks:
            raise InputError("evaluation.benchmarks=[] is empty: it needs one value at least")
        if self.seed < 0:
            raise InputError(f"evaluation.seed={self.seed} is too small: the least is 0")
        if not 0 <= self.temperature < inf or not 0 < self.top_p <= 1:
            raise InputError(
                f"evaluation.temperature={self.temperature}, top_p={self.top_p}: a temperature is at least 0, "
                "top_p lies above 0 and up to 1"
            )
        if self.temperature == 0 and self.samples > 1:
            raise InputError("evaluation.temperature=0 gives the same answer every time: take evaluation.samples=1")

    def identity(self) -> dict[str, Any]:
        """What shapes the samples of one benchmark."""
        names = ("samples", "temperature", "top_p", "max_new_tokens", "seed", "attention")
        return {name: getattr(self, name) for name in names}
