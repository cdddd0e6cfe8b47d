r"""The worker of the grader: are two answers equal? Run as a process by rsr/grading/grader.py, for the limits' sake.

What Math-Verify 0.9.0 says stands, save for what is normalised here, on both sides alike:
digits grouped by spaces, a final full stop, the signs of `_SIGNS`, and percent signs, which its parser cannot read (its
own rule is kept: 50 % equals 50 and 0.5). Options of multiple choice are compared by their letter. Where nothing can be
parsed, text is compared, without case. Its known false verdicts are marked in tests/golden/grader.jsonl.
"""

import json
import logging
import os
import re
import resource
import sys
from typing import Any, Literal

from latex2sympy2_extended.latex2sympy2 import convert_to_pct
from math_verify import LatexExtractionConfig, parse, verify

Verdict = Literal["correct", "wrong", "unparsable", "timed out"]

MEMORY = 2 * 2**30  # bytes of address space, of which the start takes a tenth

_LATEX = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
_SIGNS = str.maketrans({"–": "-", "°": r"^\circ", "∞": r"\infty ", "％": "%", "，": ",", "：": ":"})
_GROUPED_DIGITS = re.compile(r"(?<=\d)(?:\\[,;:! ]|\s|~)+(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"(?:\\?%|percent|\\text\s*\{\s*(?:\\?%|percent)\s*\})$")
_FONT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}")
_GOLD_LETTER = re.compile(r"\(?([A-Z])\)?")
_LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.):]\s.*)?", re.DOTALL)


def judge(gold: str, answer: str) -> Verdict:
    """Whether an answer equals the gold answer.

    "timed out" is a limit of memory here; where Math-Verify swallows the error of an allocation, its verdict stands. That
    of time is held from outside.
    """
    option, chosen = _GOLD_LETTER.fullmatch(plain(gold, case=True)), _LETTER.fullmatch(plain(answer))
    if option and chosen:
        return "correct" if option[1].casefold() == chosen[1].casefold() else "wrong"
    if plain(gold) == plain(answer):
        return "correct"
    try:
        parsed_gold, parsed_answer = _parse(gold), _parse(answer)
        if not (parsed_gold and parsed_answer):
            return "unparsable"
        # Gold first: an answer x = 5 is taken as 5 if gold is 5, not the other way round.
        return "correct" if verify(parsed_gold, parsed_answer, timeout_seconds=None, raise_on_error=True) else "wrong"
    except MemoryError:
        return "timed out"
    except Exception:  # sympy raises whatever it likes; Math-Verify would call it wrong
        return "unparsable"


def plain(text: str, case: bool = False) -> str:
    """Text without fonts, dollar signs around it, a final full stop, repeated spaces, and case (where no command needs it)."""
    while (bare := _FONT.sub(r"\1", text)) != text:
        text = bare
    text = " ".join(text.split()).strip("$ ").removesuffix(".").strip()
    return text if case or "\\" in text else text.casefold()


def _parse(text: str) -> list[Any]:
    text = _GROUPED_DIGITS.sub("", text.translate(_SIGNS).strip().removesuffix(".").strip("$ "))
    number = _PERCENT.sub("", text)
    # In a box: a bare \dfrac{1}{2} parses to nothing.
    values = parse(
        rf"\boxed{{{number}}}",
        _LATEX,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return values if number == text else [convert_to_pct(value) for value in values]


def main() -> None:
    """Judge pairs, a line of JSON each, until there are no more."""
    timeout = float(sys.argv[1])
    logging.disable()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(judge("1", r"\frac{2}{2}"), file=replies, flush=True)  # ready, and all tables are built
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        ends = used.ru_utime + used.ru_stime + timeout + 1
        resource.setrlimit(resource.RLIMIT_CPU, (int(ends) + 1, resource.RLIM_INFINITY))  # should the parent be gone
        print(judge(*json.loads(line)), file=replies, flush=True)


if __name__ == "__main__":
    main()
