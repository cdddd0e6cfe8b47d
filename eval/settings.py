"""Settings of an evaluation."""

from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rsr.errors import InputError


class Way(Enum):
    """What generates the answers (docs/sampling.md)."""

    batches = "batches"  # fixed batches: the same samples whatever the batch
    continuous = "continuous"  # transformers' continuous batching
    server = "server"  # an OpenAI-compatible server


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
    way: Way | None = None  # null: a server where one is said, else continuous on a GPU, else batches
    batch_size: int = 16  # samples of a fixed batch; changes no sample but for rounding
    concurrency: int = 256  # answers at work at a time, of continuous batching and of a server
    endpoint: str | None = None  # base URL of a server that runs, such as http://localhost:8000/v1
    server: str | None = None  # command that starts a server, with {model} and {port}
    engine: str | None = None  # name and version of the server, such as vllm-0.33.0
    key_variable: str = "OPENAI_API_KEY"  # environment variable with the server's key, where it wants one
    attempts: int = 20  # calls of a server for one answer; what lies between them grows to 8 seconds
    timeout: float = 3600.0  # seconds a call of a server may take

    def __post_init__(self) -> None:
        for name in ("samples", "max_new_tokens", "batch_size", "concurrency", "attempts", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"evaluation.{name}={value} is too small: the least is 1")
        if not self.benchmarks:
            raise InputError("evaluation.benchmarks=[] is empty: it needs one value at least")
        if self.seed < 0:
            raise InputError(f"evaluation.seed={self.seed} is too small: the least is 0")
        if not 0 < self.timeout < inf:
            raise InputError(f"evaluation.timeout={self.timeout} is out of range: it is a number of seconds above 0")
        if not 0 <= self.temperature < inf or not 0 < self.top_p <= 1:
            raise InputError(
                f"evaluation.temperature={self.temperature}, top_p={self.top_p}: a temperature is at least 0, "
                "top_p lies above 0 and up to 1"
            )
        if self.temperature == 0 and self.samples > 1:
            raise InputError("evaluation.temperature=0 gives the same answer every time: take evaluation.samples=1")
        self._check_server()

    def _check_server(self) -> None:
        said = [name for name in ("endpoint", "server") if getattr(self, name) is not None]
        if len(said) == 2:
            raise InputError("evaluation.endpoint and evaluation.server are both set: a server runs, or is started")
        if self.way is Way.server and not said:
            raise InputError(
                "evaluation.way=server: which one? evaluation.endpoint=URL, or evaluation.server='vllm serve {model} "
                "--port {port}'"
            )
        if said and self.way not in (Way.server, None):
            raise InputError(f"evaluation.{said[0]} is set, and evaluation.way={self.way.value} does without a server")
        if said and not self.engine:
            raise InputError(
                f"evaluation.{said[0]} is set: say what answers there, so that samples of two versions are never mixed: "
                "evaluation.engine=vllm-0.33.0"
            )
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
                raise InputError(
                    "evaluation.endpoint is a base URL such as http://localhost:8000/v1, without a key: that is read from "
                    f"the environment variable {self.key_variable}"
                )
        if self.server is not None and not ("{model}" in self.server and "{port}" in self.server):
            raise InputError(f"evaluation.server={self.server!r} lacks {{model}} or {{port}}, which are filled in")

    def chosen_way(self, on_gpu: bool) -> Way:
        """The way that is said, or the one that suits.

        Args:
            on_gpu: whether the model would lie on one GPU.
        """
        if self.endpoint or self.server:
            return Way.server
        return self.way or (Way.continuous if on_gpu else Way.batches)

    def identity(self, way: Way) -> dict[str, Any]:
        """What shapes the samples of one benchmark; two ways, and two versions of one, have different samples."""
        names = ("samples", "temperature", "top_p", "max_new_tokens", "seed", "attention")
        known = {name: getattr(self, name) for name in names} | {"way": way.value}
        if way is not Way.server:
            return known | {"engine": f"transformers-{version('transformers')}"}
        return known | {"engine": self.engine, "command": self._command()}

    def _command(self) -> str | None:
        """The server's command without the folder of its program: its options shape what it says (dtype, quantisation)."""
        if self.server is None:
            return None
        program, _, options = self.server.partition(" ")
        return f"{Path(program).name} {options}"
