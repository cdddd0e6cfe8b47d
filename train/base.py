"""The student before training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rsr.student import pretrained
from rsr.student import student as students
from rsr.student.chat import ChatRenderer
from rsr.student.identity import identity_of
from rsr.student.settings import BoundaryTokens, Rendering


@dataclass(frozen=True)
class Base:
    """The student before training: a folder or hub name, and how its chats are rendered.

    Attributes:
        template: name or file of a chat template; None takes the tokenizer's own.
        rendering, boundary_tokens: see `rsr.student.settings.Loading`; in "turn" every turn is a row of its own.
        known: its identity, where that has been found before.
    """

    name: str
    model: str
    revision: str | None = None
    template: str | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    rendering: Rendering = "whole"
    boundary_tokens: BoundaryTokens = "exclude"
    trust_remote_code: bool = False
    known: Mapping[str, Any] | None = None

    @cached_property
    def renderer(self) -> ChatRenderer:
        """Of its tokenizer, which is loaded when it is asked for.

        Raises:
            InputError: see `rsr.student.student.load_renderer`.
        """
        return students.load_renderer(
            self.model,
            revision=self.revision,
            template=self.template,
            template_variables=self.template_variables,
            rendering=self.rendering,
            boundary_tokens=self.boundary_tokens,
            trust_remote_code=self.trust_remote_code,
        )

    def identity(self) -> Mapping[str, Any]:
        """Weights, tokenizer, template, and the attention that it takes where none is asked for.

        Raises:
            InputError: see `rsr.student.identity.identity_of` and `rsr.student.pretrained.own_attention`.
        """
        return self._identity if self.known is None else self.known

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        """Of a folder it takes reading all weights, and every dataset asks for it."""
        revision, code = self.revision, self.trust_remote_code
        attention = pretrained.own_attention(self.model, revision=revision, trust_remote_code=code)
        identity = identity_of(self.model, self.renderer, revision=revision, trust_remote_code=code)
        return identity | {"attention": attention}
