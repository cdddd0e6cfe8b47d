"""Records of a question and its answer: Alpaca, TRL's prompt and completion, a problem and its solution."""

from collections.abc import Mapping
from typing import Any

from rsr.data.formats.turns import REASONING
from rsr.data.formats.values import as_list, text
from rsr.errors import InputError


def alpaca(record: Mapping[str, Any]) -> list[Any]:
    """The earlier questions and answers of its history, then its own.

    Raises:
        InputError: they are no text.
    """
    history = record.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise InputError("'history' is a list of pairs, a question and its answer")
    question, given, answer = (text(record.get(name) or "", repr(name)) for name in ("instruction", "input", "output"))
    own = "\n".join(part for part in (question, given) if part)
    return [*(turn for pair in history for turn in _exchange(*pair)), *_exchange(own, answer, record)]


def prompt_and_completion(record: Mapping[str, Any]) -> list[Any]:
    """Turns of both, or texts: the prompt is then what the user says, the completion what the assistant answers.

    Raises:
        InputError: one is a text, the other is not.
    """
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _exchange(prompt, completion, record)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise InputError("'prompt' and 'completion' are both text, or both lists of messages")
    return [*as_list(prompt, "'prompt'"), *as_list(completion, "'completion'")]


def problem_and_solution(record: Mapping[str, Any]) -> list[Any]:
    """The problem is what the user says, the solution what the assistant answers."""
    return _exchange(record["problem"], record["solution"], record)


def _exchange(question: Any, answer: Any, record: Mapping[str, Any] | None = None) -> list[Any]:
    """A question and its answer, with the reasoning that its record keeps apart."""
    reasoning = {name: record[name] for name in REASONING if record.get(name)} if record else {}
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **reasoning}]
