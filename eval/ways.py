"""From a way to a sampler: what loads a model here, or finds or starts a server of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eval import model as models
from eval.model import ChatModel
from eval.sampling import Sampler
from eval.settings import Evaluation, Way
from rsr.student import student as students
from rsr.student.settings import Loading


@contextmanager
def opened(
    way: Way, model: str, loading: Loading, evaluation: Evaluation, *, name: str, log: Path
) -> Iterator[tuple[ChatModel, Sampler]]:
    """A model and what samples from it, for as long as it is needed.

    Args:
        model: folder or hub name.
        name: of the model, for people and for a server that gives it this name.
        log: file for what a server that is started prints.

    Raises:
        InputError: the model cannot be loaded, or the server not be had.
    """
    if way is Way.server:
        with _served(model, loading, evaluation, name, log) as served:
            yield served
        return
    student = students.load(model, name=name, **vars(loading))
    chat = models.of_student(student)
    if way is Way.continuous:
        from eval.continuous import Continuous

        yield chat, Continuous(student, chat.end_tokens, evaluation)
    else:
        from eval.batches import Batches

        yield chat, Batches(student, chat.end_tokens, evaluation)


@contextmanager
def _served(
    model: str, loading: Loading, evaluation: Evaluation, name: str, log: Path
) -> Iterator[tuple[ChatModel, Sampler]]:
    from eval.endpoint import Endpoint
    from eval.server import Server

    chat = models.of_files(model, loading, name)
    if evaluation.server is None:
        yield chat, Endpoint(str(evaluation.endpoint), (model, name), chat.end_tokens, evaluation)
        return
    with Server(evaluation.server, model, loading.revision, log) as server:
        yield chat, Endpoint(server.url, (model, name), chat.end_tokens, evaluation, server.watch)
