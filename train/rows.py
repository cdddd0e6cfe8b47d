"""Training rows: trajectories tokenised and masked by the one chat renderer."""

from dataclasses import dataclass, field

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
        prompts: token ids of the first few prompts, to be answered after training.
        departures: where the chats depart from their trajectories.
        eot: id of the end-of-turn token.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
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


def training_rows(
    renderer: ChatRenderer, dataset: Dataset, max_length: int, overlong: Overlong, prompts: int = 8
) -> Rows:
    """Render every trajectory under the mask `response+eot`.

    Raises:
        InputError: a trajectory cannot be rendered, or is too long under overlong=error, or nothing is left.
    """
    rows = Rows()
    for t in dataset.trajectories:
        try:
            for chat in rows_of(renderer, t):
                prompt = _prompt(renderer, t, chat)
                if _add(rows, t, chat, max_length, overlong) and len(rows.prompts) < prompts:
                    rows.prompts.append(prompt)
        except InputError as error:
            raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
    if not rows.input_ids:
        raise InputError(
            f"{dataset.name}: nothing to train on, all {len(dataset.trajectories)} trajectories are too long"
        )
    return rows


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
