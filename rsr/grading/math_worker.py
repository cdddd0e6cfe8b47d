r"""The worker of the grader: are two answers equal? Run as a process by rsr/grading/grader.py, for the limits' sake.

What Math-Verify 0.9.0 says stands, save for what is normalised here, on both sides alike:
digits grouped by spaces, a final full stop, the signs of `_SIGNS`, number words after a number (3 million), and percent
signs, which its parser cannot read (its own rule is kept: 50 % equals 50 and 0.5). Options of multiple choice are compared
by their letter. Where nothing can be parsed, text is compared, without case. Two of its rules are too wide, and `_refused`
narrows them: tolerances that are absolute, and equations of which only the right-hand side is looked at. Its known false
verdicts are marked in tests/golden/grader.jsonl.
"""

import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any, Literal

from latex2sympy2_extended.latex2sympy2 import convert_to_pct
from math_verify import LatexExtractionConfig, parse, verify
from math_verify.grader import get_pct_val
from sympy import Abs, Basic, Eq, Expr, Float, Function, Mul, Symbol

Verdict = Literal["correct", "wrong", "unparsable", "timed out"]

MEMORY = 2 * 2**30  # bytes of address space, of which the start takes a tenth

_LATEX = [LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)]
_SIGNS = str.maketrans({"–": "-", "°": r"^\circ", "∞": r"\infty ", "％": "%", "，": ",", "：": ":"})
_GROUPED_DIGITS = re.compile(r"(?<=\d)(?:\\[,;:! ]|\s|~)+(?=\d{3}(?!\d))")
_PERCENT = re.compile(r"(?:\\?%|percent|\\text\s*\{\s*(?:\\?%|percent)\s*\})$")
_SPACE = re.compile(r"\\(?:[ ,;:!]|(?:quad|qquad|thinspace|enspace)(?![A-Za-z]))|~")
_NUMBER_WORDS = {
    "dozen": 12,
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_NUMBER_WORD = re.compile(
    rf"(?<=\d)(?:\s|{_SPACE.pattern})*(?:\\(?:text|textrm|mathrm|mbox)\s*\{{\s*)?({'|'.join(_NUMBER_WORDS)})s?(?:\s*\}})?(?![A-Za-z])",
    re.IGNORECASE,
)
_FONT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}")
# Gold is one letter, or a letter in parentheses before the option itself.
_GOLD_LETTER = re.compile(r"(?:([A-Z])|\(([A-Z])\)(?:\s.*)?)", re.DOTALL)
_LETTER = re.compile(r"\(?([A-Za-z])\)?(?:[.):]\s.*)?", re.DOTALL)
EXACT = 1e-12  # relative error of two exact numbers that are one, each computed to 30 digits
ROUNDED = 1e-3  # of a decimal, beside Math-Verify's six places: three significant digits at least


def judge(gold: str, answer: str) -> Verdict:
    """Whether an answer equals the gold answer.

    "timed out" is a limit of memory here; where Math-Verify swallows the error of an allocation, its verdict stands. That
    of time is held from outside.
    """
    option, chosen = _GOLD_LETTER.fullmatch(plain(gold, case=True)), _LETTER.fullmatch(plain(answer))
    if option and chosen:
        return "correct" if (option[1] or option[2]).casefold() == chosen[1].casefold() else "wrong"
    if plain(gold) == plain(answer):
        return "correct"
    try:
        parsed_gold, parsed_answer = _parse(gold), _parse(answer)
        if not (parsed_gold and parsed_answer):
            return "unparsable"
        # Gold first: an answer x = 5 is taken as 5 if gold is 5, not the other way round.
        if _refused(parsed_gold[0], parsed_answer[0]):
            return "wrong"
        return "correct" if verify(parsed_gold, parsed_answer, timeout_seconds=None, raise_on_error=True) else "wrong"
    except MemoryError:
        return "timed out"
    except Exception:  # sympy raises whatever it likes; Math-Verify would call it wrong
        return "unparsable"


def plain(text: str, case: bool = False) -> str:
    """Text without fonts, dollar signs around it, a final full stop, repeated spaces, and case (where no command needs it)."""
    while (bare := _FONT.sub(r"\1", text)) != text:
        text = bare
    text = " ".join(_SPACE.sub(" ", text).split()).strip("$ ").removesuffix(".").strip()
    return text if case or "\\" in text else text.casefold()


def _refused(gold: Any, answer: Any) -> bool:
    """Whether two parsed answers are different where Math-Verify would take them for one."""
    if isinstance(answer, Eq):
        if isinstance(gold, Eq):
            return _is_name(gold.lhs) and _is_name(answer.lhs) and gold.lhs != answer.lhs and gold.rhs == answer.rhs
        if len(answer.lhs.free_symbols) == 1 and not _is_name(answer.lhs):
            return True  # 2x = 5 says that x is 5/2; what a + 5b = 18 is about may be a + 5b
        answer = answer.rhs
    elif isinstance(gold, Eq):
        gold = gold.rhs
    return _are_numbers(gold, answer) and _far_apart(gold, answer)


def _is_name(side: Basic) -> bool:
    """Whether the left-hand side of an equation names a quantity: x, AB, f(2), |AB|."""
    factors = side.args if isinstance(side, Mul) else (side,)
    return all(isinstance(factor, (Symbol, Function, Abs)) for factor in factors)


def _are_numbers(*values: Any) -> bool:
    """Whether all are numbers without a percent sign, which has a rule of its own."""
    return all(isinstance(v, Expr) and v.is_number and v.is_finite and get_pct_val(v) is None for v in values)


def _far_apart(gold: Expr, answer: Expr) -> bool:
    """Whether the relative error of two numbers is beyond what rounding explains."""
    size = max(abs(gold.evalf(30)), abs(answer.evalf(30)))
    return bool(abs((gold - answer).evalf(30)) > size * (ROUNDED if gold.has(Float) or answer.has(Float) else EXACT))


def _parse(text: str) -> list[Any]:
    text = _NUMBER_WORD.sub(lambda word: rf" \times {_NUMBER_WORDS[word[1].casefold()]}", text)
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
        # Processor time, so that a verdict does not hang on what else the machine does. The signal is left to its default,
        # which ends the process inside C code too.
        signal.setitimer(signal.ITIMER_PROF, timeout)
        verdict = judge(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(verdict, file=replies, flush=True)


if __name__ == "__main__":
    main()
