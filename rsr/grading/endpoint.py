"""A judge: a model behind any OpenAI-compatible endpoint, asked for one JSON object at a time."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rsr.errors import InputError

CUT = "\n\n[... {} characters left out here ...]\n\n"
REFUSALS = (401, 403, 404)  # of the key or the model's name: no other question would fare better

T = TypeVar("T")


@dataclass(frozen=True)
class JudgeSettings:
    """Whom to ask, and how.

    Attributes:
        endpoint: base URL, such as http://localhost:8000/v1.
        model: the judge's name there; the paper's is Qwen3-32B without thinking.
        key_variable: environment variable that holds the key; one that is not set means that none is needed.
        template: file of a prompt with the question's own variables; None takes the project's own.
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

    @property
    def shape(self) -> dict[str, Any]:
        """What shapes an answer besides the prompt, for keys."""
        return {
            "model": self.model,
            "temperature": 0,
            "json_schema": self.json_schema,
            "extra": dict(self.extra or {}),
            "max_tokens": self.max_tokens,
        }


class NoAnswer(Exception):
    """A question got no answer that can be read this time; the message says why."""


class Prompt:
    """A prompt that is filled in for each question.

    Args:
        own: the project's template.
        given: file of another one.
        example: variables by which it is tried out.

    Raises:
        InputError: the template cannot be read, or fails.
    """

    def __init__(self, own: Path, given: str | None, **example: Any) -> None:
        self.path = str(given or own.name)
        self.text = _read(Path(given or own))
        # Sandboxed, as chat templates are: it may come from elsewhere.
        self._environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
        self(**example)  # one that fails is refused before any call

    def __call__(self, **variables: Any) -> str:
        """The prompt for one question.

        Raises:
            InputError: the template fails.
        """
        try:
            return self._environment.from_string(self.text).render(**variables)
        except Exception as error:  # a template is a program: whatever it raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(f"{self.path}: the judge's template fails: {reason}") from error


class Endpoint:
    """Asks a judge.

    Raises:
        InputError: the client is not installed, or the endpoint is no URL.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        if not settings.endpoint.startswith(("http://", "https://")):
            raise InputError(f"{settings.endpoint}: no URL of a judge: give one such as http://localhost:8000/v1")
        if find_spec("openai") is None:
            raise InputError("the judge needs the extra `judge`: pip install 'rsr[judge]'")
        from openai import OpenAI

        self.settings = settings
        self.client = OpenAI(
            base_url=settings.endpoint,
            api_key=os.environ.get(settings.key_variable) or "none",
            timeout=settings.timeout,
            max_retries=settings.attempts - 1,  # with backoff, and as long as the server asks for
        )

    def ask(self, prompt: str, schema: Mapping[str, Any], read: Callable[[str], T]) -> tuple[T, int]:
        """What is read in the answer to a prompt, and the tokens that all attempts took.

        Args:
            schema: of the JSON object that is wanted.
            read: takes an answer; raises ValueError where it cannot be read, and then the question is asked again.

        Raises:
            NoAnswer: the endpoint fails, or no answer can be read.
            InputError: the endpoint refuses the key or the model.
        """
        reason, tokens = "", 0
        for _ in range(self.settings.attempts):
            answer, used = self._call(prompt, schema)
            tokens += used
            try:
                return read(answer), tokens
            except ValueError as error:
                reason = str(error)
        raise NoAnswer(f"{reason} (asked {self.settings.attempts} times)")

    def _call(self, prompt: str, schema: Mapping[str, Any]) -> tuple[str, int]:
        """The judge's answer and the tokens that it took.

        Errors are known by their kind and status alone: a server's own words might spell the key.
        """
        import openai

        held = {"type": "json_schema", "json_schema": {"name": "judgement", "schema": dict(schema), "strict": True}}
        try:
            answer = self.client.chat.completions.create(
                model=self.settings.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=self.settings.max_tokens,
                extra_body={
                    **({"response_format": held} if self.settings.json_schema else {}),
                    **(self.settings.extra or {}),
                },
            )
        except openai.APIStatusError as error:
            if error.status_code in REFUSALS:
                raise InputError(
                    f"the judge's endpoint refuses with status {error.status_code}: is the model's name "
                    f"{self.settings.model!r} right, and {self.settings.key_variable} set?"
                ) from None
            raise NoAnswer(f"the endpoint answered with status {error.status_code}") from None
        except openai.APIError as error:
            raise NoAnswer(f"the endpoint gave no answer ({type(error).__name__})") from None
        if not answer.choices:
            raise NoAnswer("the endpoint answered without a choice")
        return answer.choices[0].message.content or "", answer.usage.total_tokens if answer.usage else 0


def cut(text: str, most: int | None) -> tuple[str, int]:
    """A text without its middle where it is too long, and the number of characters that are gone."""
    if most is None or len(text) <= most:
        return text, 0
    head, tail = most - most // 2, most // 2
    gone = len(text) - most
    return text[:head] + CUT.format(gone) + text[len(text) - tail :], gone


def first_object(answer: str, name: str) -> dict[str, Any]:
    """The first JSON object in an answer that has a value of this name, whatever stands around it.

    Raises:
        ValueError: there is none.
    """
    decoder, at = json.JSONDecoder(), answer.find("{")
    while at >= 0:
        try:
            value = decoder.raw_decode(answer, at)[0]
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and name in value:
            return value
        at = answer.find("{", at + 1)
    raise ValueError(f"the answer holds no JSON object with {name}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: the judge's template cannot be read: {reason}") from error
