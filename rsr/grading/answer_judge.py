"""A judge decides whether answers are right that no pattern finds, or that Math-Verify makes nothing of.

What it said is kept, question by question, so that nobody pays for it twice. A question without a verdict stays unknown, and the same
command asks it again.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.grading.endpoint import Endpoint, JudgeSettings, NoAnswer, Prompt, cut, first_object
from rsr.grading.grader import after_thinking
from rsr.store import locks
from rsr.store.artefacts import digest, path_safe
from rsr.store.journal import Journal

STAGE = "verdicts"  # its folder among the outputs
TEMPLATE = Path(__file__).with_name("answer_judge.jinja")  # of `problem`, `reference` and `response`
VERDICTS = {"right": True, "wrong": False, "none": None}
PATIENCE = 10  # questions that may fail from the first on before no more are asked
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "verdict": {"type": "string", "enum": list(VERDICTS)}},
    "required": ["answer", "verdict"],
    "additionalProperties": False,
}


class AnswerJudge:
    """Asks a judge whether responses' final answers are the reference answers.

    Attributes:
        file: where what it said is kept.
        verdicts: of the last call.
        asked: questions of the last call that were asked; what is kept is not.
        failed: why some of them got no verdict, one reason each.

    Args:
        outputs: the folder of artefacts.
        told: called after each answer with the questions that are answered, and the number of all.

    Raises:
        InputError: the client is not installed, or the template cannot be read or fails.
    """

    def __init__(
        self, settings: JudgeSettings, outputs: Path, told: Callable[[int, int], None] = lambda answered, of: None
    ) -> None:
        self.settings, self.told = settings, told
        self.endpoint = Endpoint(settings)
        self.prompt = Prompt(TEMPLATE, settings.template, problem="", reference="", response="")
        name = f"{path_safe(settings.model)}-{digest(settings.shape)[:8]}"
        self.file = outputs / STAGE / f"{name}.jsonl"
        self.lock = outputs / locks.FOLDER / f"{STAGE}-{name}"
        self.verdicts: list[bool | None] = []
        self.asked, self.failed = 0, list[str]()

    def __call__(self, trajectories: Sequence[Trajectory]) -> list[bool | None]:
        """Whether the final answer of each is its reference; None where it gives none, or where there is no verdict this time.

        Raises:
            InputError: the endpoint refuses or answers nothing, or what it says cannot be kept.
        """
        prompts = [self._prompt(t) for t in trajectories]
        keys = [None if prompt is None else hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts]
        questions = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key and prompt}
        locks.acquire(self.lock, str(self.file))
        try:
            known = self._answered(questions)
        finally:
            locks.release(self.lock)
        self.verdicts = [known.get(key) if key else None for key in keys]
        return self.verdicts

    def _answered(self, questions: dict[str, str]) -> dict[str, bool | None]:
        journal = Journal(self.file)
        known = {record["question"]: VERDICTS[record["verdict"]] for record in journal.records()}
        missing = [key for key in questions if key not in known]
        self.asked, self.failed, answered = len(missing), [], False
        for i, (key, verdict) in enumerate(self._ask(missing, questions), 1):
            if verdict is not None:
                journal.append({"question": key, "verdict": verdict})
                known[key], answered = VERDICTS[verdict], True
            elif i >= PATIENCE and not answered:
                raise InputError(
                    f"{self.settings.endpoint}: the judge answered none of the first {PATIENCE} questions, the last: {self.failed[-1]}"
                )
            self.told(i, len(missing))
        return known

    def _ask(self, keys: Sequence[str], questions: dict[str, str]) -> Iterator[tuple[str, str | None]]:
        """Each question with its verdict as it comes in, None where there is none this time."""

        def ask(key: str) -> str | None:
            try:
                return self.endpoint.ask(questions[key], SCHEMA, read_answer)[0]
            except NoAnswer as error:
                self.failed.append(str(error))
                return None

        pool = ThreadPoolExecutor(self.settings.concurrency)
        futures = {pool.submit(ask, key): key for key in keys}
        try:
            yield from ((futures[future], future.result()) for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)

    def _prompt(self, trajectory: Trajectory) -> str | None:
        """The question about a trajectory; None where its last response has not come to an answer."""
        final = after_thinking(trajectory.messages[trajectory.final].text)
        if final is None or not final.strip():
            return None
        problem = "\n\n".join(m.content for m in trajectory.messages[: trajectory.final] if m.role == "user")
        response, _ = cut(final.strip(), self.settings.max_characters)
        return self.prompt(problem=problem, reference=trajectory.answer, response=response)


def read_answer(answer: str) -> str:
    """The verdict of an answer.

    Raises:
        ValueError: it holds no object of the schema.
    """
    verdict = first_object(answer, "verdict")["verdict"]
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        raise ValueError(f"the answer's verdict is {verdict!r}, not right, wrong or none")
    return verdict
