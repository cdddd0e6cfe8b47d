"""LLM-judged quality: a judge (`rsr.grading.endpoint`) scores the reasoning.

A judgement that cannot be had or read is a missing value, never 0; the same command asks for it again.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import polars as pl

from rsr.data.trajectories import Trajectory
from rsr.features.extractor import Columns, Failed, NotRendered, Row
from rsr.grading.endpoint import Endpoint, JudgeSettings, NoAnswer, Prompt, cut, first_object

TEMPLATE = Path(__file__).with_name("judge.jinja")  # of `problem`, `solution` and `criteria`
CRITERIA = (
    "factual_accuracy",
    "logical_rigor",
    "solution_completeness",
    "reasoning_efficiency",
    "presentation_quality",
)
COLUMNS: Columns = {name: pl.Float64() for name in ("score", *CRITERIA)} | {"characters_cut": pl.Int64()}
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


class Judge:
    """Asks a judge about each trajectory (a `rsr.features.extractor.FeatureExtractor`).

    Raises:
        InputError: the client is not installed, or the template cannot be read or fails.
    """

    stage = "judgements"
    columns = COLUMNS
    part = 1  # what was paid for is kept at once

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings, self.workers = settings, settings.concurrency
        self.endpoint = Endpoint(settings)
        self.prompt = Prompt(TEMPLATE, settings.template, problem="", solution="", criteria=CRITERIA)

    def identity(self) -> dict[str, Any]:
        return {
            "version": 1,
            "template_sha256": hashlib.sha256(self.prompt.text.encode()).hexdigest(),
            "max_characters": self.settings.max_characters,
            **self.settings.shape,
        }

    def __call__(self, trajectory: Trajectory) -> Row:
        if trajectory.images:
            raise NotRendered("it has images, which the judge is not shown")
        problem = "\n\n".join(m.content for m in trajectory.messages if m.role == "user")
        whole = "\n\n".join(m.text for m in trajectory.messages if m.role == "assistant")
        solution, gone = cut(whole, self.settings.max_characters)
        prompt = self.prompt(problem=problem, solution=solution, criteria=CRITERIA)
        try:
            scores, tokens = self.endpoint.ask(prompt, SCHEMA, read_answer)
        except NoAnswer as error:
            raise Failed(str(error)) from error
        return {**scores, "characters_cut": gone, "processed": tokens}


def read_answer(answer: str) -> dict[str, float]:
    """The scores of an answer: the overall one as "score", and each criterion.

    Raises:
        ValueError: it holds no object of the schema, or a score that is no number from 0 to 1.
    """
    judgement = first_object(answer, "overall_score")
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
