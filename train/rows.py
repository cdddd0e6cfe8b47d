"""Training rows: trajectories tokenised and masked by the one chat renderer."""

from dataclasses import dataclass, field

from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError
from rsr.student.chat import ChatRenderer
from train.settings import Overlong

IGNORED = -100  # label of a token without loss


@dataclass
class Rows:
    """What the trainer sees, and what was counted on the way.

    Attributes:
        input_ids: token ids of whole chats.
        labels: the same ids for responses and their end-of-turn tokens, `IGNORED` elsewhere.
        prompts: token ids of the first few prompts, to be answered after training.
        eot: id of the end-of-turn token.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)  # ids of trajectories
    dropped: list[str] = field(default_factory=list)
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
            chat = renderer.render(t.messages)
            positions = chat.positions("response+eot")
            prompt = list(chat.ids[: chat.turns[0].start])
            _check_prompt(renderer, t, prompt)
        except InputError as error:
            raise InputError(f"{dataset.name}, trajectory {t.id}: {error}") from error
        if chat.length > max_length and overlong is Overlong.error:
            raise InputError(
                f"{dataset.name}, trajectory {t.id}: {chat.length} tokens are more than max_length={max_length}; "
                "raise student.training.max_length, or choose student.training.overlong=truncate or drop"
            )
        kept = [p for p in positions if p < max_length]
        if chat.length > max_length and (overlong is Overlong.drop or not kept):
            rows.dropped.append(t.id)
            continue
        if chat.length > max_length:
            rows.truncated.append(t.id)
        labels = [IGNORED] * min(chat.length, max_length)
        for p in kept:
            labels[p] = chat.ids[p]
        rows.input_ids.append(list(chat.ids[:max_length]))
        rows.labels.append(labels)
        rows.eot = chat.ids[positions[-1]]
        if len(rows.prompts) < prompts:
            rows.prompts.append(prompt)
    if not rows.input_ids:
        raise InputError(
            f"{dataset.name}: nothing to train on, all {len(dataset.trajectories)} trajectories are too long"
        )
    return rows


def _check_prompt(renderer: ChatRenderer, trajectory: Trajectory, prompt: list[int]) -> None:
    """In an evaluation the student sees the prompt alone: it must be the one it was trained on, token for token."""
    first_reply = next(i for i, m in enumerate(trajectory.messages) if m.role == "assistant")
    if renderer.prompt_ids(trajectory.messages[:first_reply]) != prompt:
        raise InputError("the tokenizer spells the prompt otherwise where no response follows: evaluation would differ")
