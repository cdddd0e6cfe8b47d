"""Sampling from an OpenAI-compatible completions endpoint that takes and gives token ids, as vLLM and SGLang serve it.

The client is openai's, which asks again with backoff after 408, 409, 429, 5xx, time-outs and broken connections. An answer that cannot
be had is an error, never an empty answer. Errors are known by their kind and status alone: a server's own words might spell the key.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from eval.sampling import Completion, Request, ended, seed
from eval.settings import Evaluation
from rsr.errors import InputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT = 10.0  # seconds
WATCHED = 1.0  # seconds between two looks at the server's process
VERSIONS = ("/version", "/get_server_info")  # where vLLM and SGLang say theirs
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # or a model's own generation settings fill them in
HINTS = {
    400: "does it take token ids, and so long a context (--max-model-len)?",
    401: "it wants another key",
    403: "it wants another key",
    404: "does its base URL end in /v1?",
}


class Endpoint:
    """A `eval.sampling.Sampler`.

    Args:
        url: base URL.
        models: names of the model, one of which the server must give its own.
        end_tokens: that end a turn.
        watch: called every second while answers are open.

    Raises:
        InputError: the client is not installed.
    """

    def __init__(
        self,
        url: str,
        models: Collection[str],
        end_tokens: Sequence[int],
        evaluation: Evaluation,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        if find_spec("openai") is None:
            raise InputError('a server is asked by openai\'s client: pip install -c constraints.txt -e ".[server]"')
        self.url, self.models, self.end_tokens = url, models, list(end_tokens)
        self.evaluation, self.watch = evaluation, watch
        self._version: str | None = None

    def facts(self) -> Mapping[str, Any]:
        return {"concurrency": self.evaluation.concurrency, "server_version": self._version}

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        if not requests:
            return
        tasks = set[asyncio.Task[tuple[int, Completion]]]()
        with asyncio.Runner() as runner:
            client = self._client()
            try:
                model = runner.run(self._meet(client, max(len(r.prompt) + r.room for r in requests)))
                gate, loop = asyncio.Semaphore(self.evaluation.concurrency), runner.get_loop()
                tasks |= {loop.create_task(self._answer(client, gate, model, i, r)) for i, r in enumerate(requests)}
                while tasks:
                    done, tasks = runner.run(_some(tasks))
                    failures = [error for task in done if (error := task.exception())]
                    yield from (task.result() for task in done if not task.exception())
                    if failures:
                        raise failures[0]
                    self.watch()
            finally:
                runner.run(_end(client, tasks))

    def _client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI, Timeout

        return AsyncOpenAI(
            base_url=self.url,
            api_key=os.environ.get(self.evaluation.key_variable) or "none",
            timeout=Timeout(self.evaluation.timeout, connect=CONNECT),
            max_retries=self.evaluation.attempts - 1,
        )

    async def _meet(self, client: "AsyncOpenAI", longest: int) -> str:
        """The server's name of the model, after a look whether it is the one that is meant, in the version that is meant."""
        served = (await self._asked(client.models.list())).data
        cards = {name: card for card in served for name in (getattr(card, "root", None), card.id)}
        card = next((cards[name] for name in self.models if name in cards), None)
        if card is None:
            raise InputError(
                f"{self.url} serves {', '.join(card.id for card in served) or 'nothing'}, and not "
                f"{' or '.join(self.models)}: its answers would be counted for another model; start it with that model, or "
                "under that name (--served-model-name)"
            )
        context = getattr(card, "max_model_len", None)
        if context is not None and context < longest:
            raise InputError(
                f"{self.url} serves contexts of {context} tokens, and prompt and answer take up to {longest}: start it with "
                f"--max-model-len {longest}, or take a smaller evaluation.max_new_tokens"
            )
        self._version = await self._said_version(client)
        engine = str(self.evaluation.engine)
        if self._version is not None and self._version not in engine:
            raise InputError(
                f"{self.url} is of version {self._version}, and evaluation.engine={engine}: say the one that answers"
            )
        return str(card.id)

    async def _said_version(self, client: "AsyncOpenAI") -> str | None:
        import openai

        for path in VERSIONS:
            try:
                said = await client.get(urljoin(self.url, path), cast_to=object)
            except openai.APIError:
                continue
            if isinstance(said, dict) and said.get("version"):
                return str(said["version"])
        return None

    async def _answer(
        self, client: "AsyncOpenAI", gate: asyncio.Semaphore, model: str, place: int, request: Request
    ) -> tuple[int, Completion]:
        async with gate:
            for _ in range(self.evaluation.attempts):
                answer = await self._asked(client.completions.create(**self._body(model, request)))
                completion = self._read(request, answer)
                if completion is not None:
                    return place, completion
            raise InputError(f"{self.url}: {self.evaluation.attempts} answers to one prompt came without an end")

    def _body(self, model: str, request: Request) -> dict[str, Any]:
        chosen = self.evaluation
        return {
            "model": model,
            "prompt": [*request.prompt],
            "max_tokens": request.room,
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "seed": seed(request.source),
            "extra_body": {**NEUTRAL, "stop_token_ids": self.end_tokens, "return_token_ids": True},
        }

    async def _asked(self, call: Any) -> Any:
        """The answer to a call.

        Raises:
            InputError: after all attempts there is none.
        """
        import openai

        attempts = self.evaluation.attempts
        try:
            return await call
        except openai.APIStatusError as error:
            status = error.status_code
            hint = HINTS.get(status, f"{attempts} times")
            raise InputError(f"{self.url} answers with status {status}: {hint}; what was answered is kept") from None
        except openai.APIError as error:
            raise InputError(
                f"{self.url} gave no answer ({type(error).__name__}, {attempts} times); what was answered is kept, the same "
                "command goes on"
            ) from None

    def _read(self, request: Request, answer: Any) -> Completion | None:
        """The completion in an answer; None where it was broken off, as by a server that is being stopped.

        Raises:
            InputError: it answers another prompt, or says no token ids.
        """
        choices = getattr(answer, "choices", None)
        if not choices or choices[0].finish_reason not in ("stop", "length"):
            return None
        choice = choices[0]
        tokens, prompt = getattr(choice, "token_ids", None), getattr(choice, "prompt_token_ids", None)
        if tokens is None or prompt is None:
            raise InputError(
                f"{self.url} says no token ids: it must know `return_token_ids`, as vLLM from 0.10.2 and SGLang since July 2026"
            )
        if tuple(prompt) != request.prompt:
            raise InputError(f"{self.url} has answered another prompt than the one that was sent, token by token")
        completion = ended(tokens[: request.room], self.end_tokens)
        if choice.finish_reason == "stop":  # with or without the token that ended it
            return Completion(completion.tokens, "stop")
        whole = completion.finish_reason == "length" and len(completion.tokens) == request.room
        return completion if whole else None


async def _end(client: "AsyncOpenAI", tasks: set[asyncio.Task[tuple[int, Completion]]]) -> None:
    """Give up what is open."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()


async def _some(tasks: set[asyncio.Task[Any]]) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    """Those that are done and those that are open, after a moment at most."""
    return await asyncio.wait(tasks, timeout=WATCHED, return_when=asyncio.FIRST_COMPLETED)
