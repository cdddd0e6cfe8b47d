"""An engine whose model is loaded when something is to be scored: to find what is scored already, its files suffice."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rsr.errors import InputError
from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.chat import RenderedChat
from rsr.student.settings import Loading
from rsr.student.student import AnyStudent
from rsr.tokens.engine import Scorer, identity_of
from rsr.tokens.settings import Scoring
from rsr.tokens.tokens import Tokens


class LateScorer:
    """Scores as `rsr.tokens.engine.Scorer` does, in whose place it stands.

    Raises:
        InputError: see `rsr.student.student.describe`, and `rsr.tokens.settings.Scoring.max_length_for`.
    """

    def __init__(self, model: str | Path, loading: Loading, scoring: Scoring, *, name: str | None = None) -> None:
        self.loading = loading
        self._model, self._scoring = model, scoring
        self._described = students.describe(model, loading, name=name)
        self.max_length = scoring.max_length_for(self._described)

    @cached_property
    def scorer(self) -> Scorer:
        """The engine itself, with its model.

        Raises:
            InputError: see `rsr.student.student.load` and `rsr.tokens.engine.Scorer`; or the model has become another one.
        """
        student = students.load_described(self._model, self.loading, self._described)
        for key, value in self._described.identity.items():
            if student.identity[key] != value:
                raise InputError(
                    f"{self._model}: its {key} was {value} and is {student.identity[key]} once it is loaded"
                )
        return Scorer(student, self._scoring)

    @property
    def loaded(self) -> bool:
        """Whether something was to be scored, so that the model was loaded."""
        return "scorer" in vars(self)

    @property
    def student(self) -> AnyStudent:
        return self.scorer.student if self.loaded else self._described

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self._scoring, self.max_length)

    @cached_property
    def token_budget(self) -> int:
        """Known before the model is loaded: data that cannot be rendered are refused first."""
        source: dict[str, Any] = {
            "revision": self.loading.revision,
            "trust_remote_code": self.loading.trust_remote_code,
        }
        config = pretrained.load_config(self._model, **source).get_text_config()
        return self._scoring.token_budget_on(self._described.identity["device"], config.hidden_size)

    @property
    def computed_with(self) -> dict[str, Any]:
        """Nothing where all was scored before."""
        return self.scorer.computed_with if self.loaded else {}

    def score(self, chats: Sequence[RenderedChat], done: Callable[[int], None] = lambda chat: None) -> Tokens:
        """See `rsr.tokens.engine.Scorer.score`."""
        return self.scorer.score(chats, done)
