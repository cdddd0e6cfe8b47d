"""Training rows: trajectories tokenised, masked and weighted by the one chat renderer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import fsum

from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.student.chat import ChatRenderer, Departures, RenderedChat
from train.settings import Overlong

IGNORED = -100  # label of a token without loss


@dataclass
class Rows:
    """What the trainer sees, and what was counted on the way.

    Attributes:
        input_ids: token ids of whole chats, or of every turn behind its own prefix.
        labels: the same ids for what the student has to write, up to the end-of-turn tokens, `IGNORED` elsewhere.
        weights: what each token counts in the loss, 0 where it has no label; the mean over all that have one is 1. None where
            all count the same because nothing says otherwise.
        prompts: token ids of the first few prompts, to be answered after training.
        departures: where the chats depart from their trajectories.
        eot: id of the end-of-turn token.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    weights: list[list[float]] | None = None
    prompts: list[list[int]] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)  # ids of trajectories
    dropped: list[str] = field(default_factory=list)
    departures: Departures = field(default_factory=Departures)
    eot: int = -1

    @property
    def tokens(self) -> int:
        return sum(len(ids) for ids in self.input_ids)

    @property
    def response_tokens(self) -> int:
        return sum(label != IGNORED for labels in self.labels for label in labels)

    @property
    def range_of_weights(self) -> tuple[float, float] | None:
        """The least and the greatest weight of a token that has a label; None where there are no weights."""
        if self.weights is None:
            return None
        labelled = zip(chain.from_iterable(self.labels), chain.from_iterable(self.weights), strict=True)
        own = [weight for label, weight in labelled if label != IGNORED]
        return min(own), max(own)


def training_rows(
    renderer: ChatRenderer,
    dataset: Dataset,
    max_length: int,
    overlong: Overlong,
    prompts: int = 8,
    token_weights: Mapping[str, Sequence[float]] | None = None,
) -> Rows:
    """Render every trajectory under the mask `response+eot`.

    Args:
        token_weights: by trajectory, of its response tokens in their order, as far as they were scored. What the student writes
            besides (the end of a turn, and what the template begins it with) counts 1.

    Raises:
        InputError: a trajectory cannot be rendered, or is too long under overlong=error, or nothing is left, or all weights are 0.
    """
    rows, weights = Rows(), list[list[float]]()
    for t in dataset.trajectories:
        of_tokens = iter(token_weights[t.id]) if token_weights is not None else None
        try:
            for chat in rows_of(renderer, t):
                prompt = _prompt(renderer, t, chat)
                own = _weights(chat, max_length, of_tokens)
                if _add(rows, t, chat, max_length, overlong):
                    weights.append([(1.0 if t.weight is None else t.weight) * weight for weight in own])
                    rows.prompts += [prompt] if len(rows.prompts) < prompts else []
            assert of_tokens is None or next(of_tokens, None) is None, "other tokens were scored than are trained on"
        except InputError as error:
            raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
    if not rows.input_ids:
        raise InputError(
            f"{dataset.name}: nothing to train on, all {len(dataset.trajectories)} trajectories are too long"
        )
    if token_weights is not None or any(t.weight is not None for t in dataset.trajectories):
        rows.weights = _relative(dataset, rows.labels, weights)
    return rows


def _weights(chat: RenderedChat, max_length: int, of_tokens: Iterator[float] | None) -> list[float]:
    """A weight for each token that is kept: those of the response tokens in turn, 1 elsewhere."""
    weights = [1.0] * min(chat.length, max_length)
    if of_tokens is not None:
        for position in chat.positions("response"):
            if position < max_length:
                weights[position] = next(of_tokens)
    return weights


def _relative(dataset: Dataset, labels: list[list[int]], weights: list[list[float]]) -> list[list[float]]:
    """Weights over their mean: equal ones are exactly 1 whatever they are, and steps are as large as without weights."""
    labelled = [
        [weight if label != IGNORED else 0.0 for label, weight in zip(*row, strict=True)]
        for row in zip(labels, weights, strict=True)
    ]
    most = max(weight for row in labelled for weight in row)
    if not most:
        raise InputError(f"{dataset.name}: all weights are 0, so that there is nothing to learn: give some more than 0")
    tokens = sum(label != IGNORED for row in labels for label in row)
    mean = fsum(weight / most for row in labelled for weight in row) / tokens
    return [[weight / most / mean for weight in row] for row in labelled]


def _add(rows: Rows, trajectory: Trajectory, chat: RenderedChat, max_length: int, overlong: Overlong) -> bool:
    """Make a row of a chat, unless it is dropped."""
    positions = chat.positions("response+eot")
    if chat.length > max_length and overlong is Overlong.error:
        raise InputError(
            f"{chat.length} tokens are more than max_length={max_length}; raise student.training.max_length, or choose "
            "student.training.overlong=truncate or drop"
        )
    kept = [p for p in positions if p < max_length]
    if chat.length > max_length and (overlong is Overlong.drop or not kept):
        rows.dropped.append(trajectory.id)
        return False
    if chat.length > max_length:
        rows.truncated.append(trajectory.id)
    labels = [IGNORED] * min(chat.length, max_length)
    for p in kept:
        labels[p] = chat.ids[p]
    rows.input_ids.append(list(chat.ids[:max_length]))
    rows.labels.append(labels)
    rows.departures += chat.departures
    rows.eot = chat.ids[positions[-1]]
    return True


def rows_of(renderer: ChatRenderer, trajectory: Trajectory) -> list[RenderedChat]:
    """The chats that a trajectory is trained on: itself, or under rendering=turn one of each turn.

    Raises:
        InputError: it cannot be rendered.
    """
    messages, tools = trajectory.messages, trajectory.tool_schemas
    return (
        [renderer.render(messages, None, tools)]
        if renderer.rendering == "whole"
        else renderer.turns(messages, None, tools)
    )


def _prompt(renderer: ChatRenderer, trajectory: Trajectory, chat: RenderedChat) -> list[int]:
    """In an evaluation the student sees the prompt alone: it must be the one that it is trained on, token for token.

    A token that the tokenizer joins across its end is counted with the chat.
    """
    if not chat.turns:
        raise InputError("the chat template leaves nothing of its responses: train on student.rendering=turn")
    turn = chat.turns[0]
    prompt = renderer.prompt_ids(trajectory.messages[: turn.message], trajectory.tool_schemas)
    if prompt != list(chat.ids[: turn.prompt]) and not chat.departures.boundary:
        mend = "another template" if renderer.rendering == "turn" else "student.rendering=turn"
        raise InputError(
            f"the student meets another prompt where no response follows: evaluation would differ: take {mend}"
        )
    return prompt
