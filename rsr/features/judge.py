"""LLM-judged quality: a judge model behind any OpenAI-compatible endpoint scores the reasoning.

A judgement that cannot be had or read is a missing value, never 0; the same command asks for it again.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.extractor import Columns, Failed, NotRendered, Row

CRITERIA = (
    "factual_accuracy",
    "logical_rigor",
    "solution_completeness",
    "reasoning_efficiency",
    "presentation_quality",
)
CUT = "\n\n[... {} characters left out here ...]\n\n"
COLUMNS: Columns = {name: pl.Float64() for name in ("score", *CRITERIA)} | {"characters_cut": pl.Int64()}
REFUSALS = (401, 403, 404)  # of the key or the model's name: no other trajectory would fare better
_SCORED = {
    "type": "object",
    "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}, "reason": {"type": "string"}},
    "required": ["score", "reason"],
    "additionalProperties": False,
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "dimensional_evaluation": {
            "type": "object",
            "properties": dict.fromkeys(CRITERIA, _SCORED),
            "required": list(CRITERIA),
            "additionalProperties": False,
        },
        "overall_score": {"type": "number", "minimum": 0, "maximum": 1},
        "overall_reason": {"type": "string"},
    },
    "required": ["dimensional_evaluation", "overall_score", "overall_reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class JudgeSettings:
    """Whom to ask, and how.

    Attributes:
        endpoint: base URL, such as http://localhost:8000/v1.
        model: the judge's name there; the paper's is Qwen3-32B without thinking.
        key_variable: environment variable that holds the key; one that is not set means that none is needed.
        template: file of a prompt with `problem`, `solution` and `criteria`; None takes the project's own.
        json_schema: ask the server to hold the answer to the schema.
        extra: passed in the body of a request, such as {"chat_template_kwargs": {"enable_thinking": false}}.
        max_tokens: of an answer.
        max_characters: of a solution; a longer one loses its middle, with a mark. None keeps all.
        attempts: calls for one judgement, whatever fails.
        timeout: seconds a call may take.
        concurrency: calls at once.
    """

    endpoint: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    template: str | None = None
    json_schema: bool = True
    extra: Mapping[str, Any] | None = None
    max_tokens: int = 1024
    max_characters: int | None = None
    attempts: int = 4
    timeout: float = 300.0
    concurrency: int = 8


class Judge:
    """Asks a judge about each trajectory (a `rsr.features.extractor.FeatureExtractor`).

    Raises:
        InputError: the client is not installed, or the template cannot be read or fails.
    """

    stage = "judgements"
    columns = COLUMNS
    part = 1  # what was paid for is kept at once

    def __init__(self, settings: JudgeSettings) -> None:
        if find_spec("openai") is None:
            raise InputError("the judge needs the extra `judge`: pip install 'rsr[judge]'")
        from openai import OpenAI

        self.settings, self.workers = settings, settings.concurrency
        self.text = _template(settings.template)
        # Sandboxed, as chat templates are: it may come from elsewhere.
        self.environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
        self.prompt("", "")  # a template that fails is refused before any call
        self.client = OpenAI(
            base_url=settings.endpoint,
            api_key=os.environ.get(settings.key_variable) or "none",
            timeout=settings.timeout,
            max_retries=settings.attempts - 1,  # with backoff, and as long as the server asks for
        )

    def identity(self) -> dict[str, Any]:
        s = self.settings
        return {
            "version": 1,
            "model": s.model,
            "template_sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            "temperature": 0,
            "json_schema": s.json_schema,
            "extra": dict(s.extra or {}),
            "max_tokens": s.max_tokens,
            "max_characters": s.max_characters,
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        if trajectory.images:
            raise NotRendered("it has images, which the judge is not shown")
        problem = "\n\n".join(m.content for m in trajectory.messages if m.role == "user")
        whole = "\n\n".join(m.text for m in trajectory.messages if m.role == "assistant")
        solution, cut = _cut(whole, self.settings.max_characters)
        prompt = self.prompt(problem, solution)
        reason, tokens = "", 0
        for _ in range(self.settings.attempts):
            answer, used = self._ask(prompt)
            tokens += used
            try:
                return {**read_answer(answer), "characters_cut": cut, "processed": tokens}
            except ValueError as error:
                reason = str(error)
        raise Failed(f"{reason} (asked {self.settings.attempts} times)")

    def prompt(self, problem: str, solution: str) -> str:
        """The prompt for one trajectory.

        Raises:
            InputError: the template fails.
        """
        try:
            template = self.environment.from_string(self.text)
            return template.render(problem=problem, solution=solution, criteria=CRITERIA)
        except Exception as error:  # a template is a program: whatever it raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(
                f"{self.settings.template or 'judge.jinja'}: the judge's template fails: {reason}"
            ) from error

    def _ask(self, prompt: str) -> tuple[str, int]:
        """The judge's answer and the tokens that it took.

        Errors are known by their kind and status alone: a server's own words might spell the key.
        """
        import openai

        schema = {"type": "json_schema", "json_schema": {"name": "judgement", "schema": SCHEMA, "strict": True}}
        try:
            answer = self.client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=self.settings.max_tokens,
                extra_body={
                    **({"response_format": schema} if self.settings.json_schema else {}),
                    **(self.settings.extra or {}),
                },
            )
        except openai.APIStatusError as error:
            if error.status_code in REFUSALS:
                raise InputError(
                    f"the judge's endpoint refuses with status {error.status_code}: is judge.model right, and "
                    f"{self.settings.key_variable} set?"
                ) from None
            raise Failed(f"the endpoint answered with status {error.status_code}") from None
        except openai.APIError as error:
            raise Failed(f"the endpoint gave no answer ({type(error).__name__})") from None
        if not answer.choices:
            raise Failed("the endpoint answered without a choice")
        return answer.choices[0].message.content or "", answer.usage.total_tokens if answer.usage else 0


def _template(path: str | None) -> str:
    if path is None:
        return (files("rsr") / "features" / "judge.jinja").read_text(encoding="utf-8")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: the judge's template cannot be read: {reason}") from error


def _cut(text: str, most: int | None) -> tuple[str, int]:
    """A text without its middle where it is too long, and the number of characters that are gone."""
    if most is None or len(text) <= most:
        return text, 0
    head, tail = most - most // 2, most // 2
    gone = len(text) - most
    return text[:head] + CUT.format(gone) + text[len(text) - tail :], gone


def read_answer(answer: str) -> dict[str, float]:
    """The scores of an answer: the overall one as "score", and each criterion.

    Raises:
        ValueError: it holds no object of the schema, or a score that is no number from 0 to 1.
    """
    judgement = _first_object(answer)
    criteria = judgement.get("dimensional_evaluation")
    if not isinstance(criteria, dict):
        raise ValueError("the answer has no dimensional_evaluation")
    scores = {"score": judgement.get("overall_score")}
    for name in CRITERIA:
        criterion = criteria.get(name)
        scores[name] = criterion.get("score") if isinstance(criterion, dict) else criterion
    return {name: _valid(name, value) for name, value in scores.items()}


def _valid(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"the answer's {name} is no number")
    if not 0 <= value <= 1:
        raise ValueError(f"the answer's {name} is {value}, not between 0 and 1")
    return float(value)


def _first_object(answer: str) -> dict[str, Any]:
    """The first JSON object in an answer that has a score, whatever stands around it."""
    decoder, at = json.JSONDecoder(), answer.find("{")
    while at >= 0:
        try:
            value = decoder.raw_decode(answer, at)[0]
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "overall_score" in value:
            return value
        at = answer.find("{", at + 1)
    raise ValueError("the answer holds no JSON object with an overall_score")
