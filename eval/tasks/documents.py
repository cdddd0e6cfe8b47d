"""What lm-eval calls by name from the task files: documents in one form, and their grading."""

from typing import TYPE_CHECKING, Any

from rsr.errors import InputError
from rsr.grading.grader import Grader, Kind

if TYPE_CHECKING:
    from datasets import Dataset

# Names that the columns go by in the published data sets.
PROBLEM = ("problem", "Problem", "question", "Question")
ANSWER = ("answer", "Answer", "Correct Answer")
IDENTITY = ("id", "ID", "unique_id", "Record ID")
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
LETTERS = "ABCD"


def mathematics(documents: "Dataset") -> "Dataset":
    """Columns id, problem, answer.

    Raises:
        InputError: there is no column for one of them.
    """
    names = documents.column_names
    problem, answer = _column(PROBLEM, names), _column(ANSWER, names)
    identity = next((name for name in IDENTITY if name in names), None)

    def row(document: dict[str, Any], index: int) -> dict[str, str]:
        known = str(document[identity]) if identity else str(index)
        return {"id": known, "problem": str(document[problem]), "answer": str(document[answer])}

    return documents.map(row, with_indices=True, remove_columns=names)


def grade_school(documents: "Dataset") -> "Dataset":
    """GSM8K: the answer is what follows `####`, without separators of thousands.

    Raises:
        InputError: a column is missing.
    """

    def last(document: dict[str, str]) -> dict[str, str]:
        return {"answer": document["answer"].rpartition("####")[2].replace(",", "").strip()}

    return mathematics(documents).map(last)


def multiple_choice(documents: "Dataset") -> "Dataset":
    """GPQA: the choices in an order drawn from the question, so that it is the same in every run.

    Raises:
        InputError: a column is missing.
    """
    from random import Random

    if "problem" in documents.column_names:  # a local copy in our form
        return mathematics(documents)
    names = documents.column_names
    problem, right, identity = (_column(aliases, names) for aliases in (PROBLEM, ANSWER, IDENTITY))
    wrong = [_column((name,), names) for name in WRONG]

    def row(document: dict[str, Any]) -> dict[str, str]:
        choices = [document[right], *(document[name] for name in wrong)]
        order = Random(str(document[problem])).sample(range(len(choices)), len(choices))
        listed = [f"({letter}) {str(choices[i]).strip()}" for letter, i in zip(LETTERS, order, strict=True)]
        text = "\n".join([str(document[problem]).strip(), "", *listed, "", "Give the letter of the right choice."])
        return {"id": str(document[identity]), "problem": text, "answer": LETTERS[order.index(0)]}

    return documents.map(row, remove_columns=names)


def functions(documents: "Dataset") -> "Dataset":
    """HumanEval: the function to be completed, and tests that are called with it.

    Raises:
        InputError: a column is missing.
    """
    if "problem" in documents.column_names:
        return mathematics(documents)
    names = documents.column_names
    identity, prompt, test, name = (
        _column((column,), names) for column in ("task_id", "prompt", "test", "entry_point")
    )

    def row(document: dict[str, str]) -> dict[str, str]:
        tests = f"{document[test]}\ncheck({document[name]})"
        return {"id": document[identity], "problem": document[prompt].strip(), "answer": tests}

    return documents.map(row, remove_columns=names)


def assertions(documents: "Dataset") -> "Dataset":
    """MBPP: what the program has to do and the assertions that it has to pass, without which its name is not known.

    Raises:
        InputError: a column is missing.
    """
    if "problem" in documents.column_names:
        return mathematics(documents)
    names = documents.column_names
    identity, text, tests, setup = (
        _column((column,), names) for column in ("task_id", "text", "test_list", "test_setup_code")
    )

    def row(document: dict[str, Any]) -> dict[str, str]:
        listed = "\n".join(document[tests])
        problem = f"{document[text].strip()} The program has to pass these tests:\n{listed}"
        return {"id": str(document[identity]), "problem": problem, "answer": f"{document[setup]}\n{listed}".strip()}

    return documents.map(row, remove_columns=names)


def _column(known: tuple[str, ...], names: list[str]) -> str:
    for name in known:
        if name in names:
            return name
    raise InputError(f"the benchmark has no column {' or '.join(known)}; it has {', '.join(names)}")


def accuracy(document: dict[str, Any], responses: list[Any]) -> dict[str, float]:
    """Share of right responses among those with a verdict, where the tasks are run by lm-eval's own command."""
    return _share(document, responses, Kind.mathematics)


def passed(document: dict[str, Any], responses: list[Any]) -> dict[str, float]:
    """Share of responses whose program passes among those with a verdict, where the tasks are run by lm-eval's own command."""
    return _share(document, responses, Kind.programs)


def _share(document: dict[str, Any], responses: list[Any], kind: Kind) -> dict[str, float]:
    texts = responses[0] if isinstance(responses[0], list) else responses
    with Grader(kind=kind) as grader:
        grades = grader.grade((document["answer"], text) for text in texts)
    verdicts = [grade.correct for grade in grades if grade.gradable]
    # Without any verdict the problem has no part in the mean.
    return {"acc": sum(verdicts) / len(verdicts)} if verdicts else {}
