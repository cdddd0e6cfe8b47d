"""Where RSR goes wrong: each known mechanism with a minimal example, measured beside its closed form.

    python experiments/failures.py                      # the miniature's student, in its own words
    python experiments/failures.py student=smollm2 examples=50   # a real student of 135M parameters, in English

Three mechanisms: digits that cannot be known have a bounded rank; fluent text has RSR 1 / mean surprisal; tokens drawn from
a small closed set have RSR (k + 1) / (2 ln k). Writes results/failures/<student>/.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from experiments.analysis import failure_examples
from experiments.analysis.failure_examples import Answer, Examples
from experiments.app import result_folder
from experiments.app.command_configs import FailuresConfig
from experiments.app.conclusions import Finding, conclude
from experiments.app.config import BootstrapConfig
from experiments.app.entry import entry
from experiments.simulation import closed_set
from experiments.stages import students
from experiments.stages.scoring import settings_of
from rsr.data.trajectories import Message
from rsr.errors import InputError
from rsr.metrics.token import rsr
from rsr.stats.effect import Effect, of_draws
from rsr.student.chat import RenderedChat
from rsr.tokens.tokens import Tokens, divide
from rsr.views.plots import Curve, Estimate, curves, forest

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer

Floats = NDArray[np.float64]
BATCH = 25  # chats that are continued at a time
OWN, NOISE = "the student's own most likely words", "random digits"


@dataclass(frozen=True)
class Measured:
    """Means over each answer's counted tokens of rank (clipped) and surprisal, shape (answers,); 0 where none counts."""

    label: str
    rank: Floats
    surprisal: Floats

    @property
    def value(self) -> float:
        """RSR, the ratio of means (Eq. 9)."""
        return float(self.rank.sum() / self.surprisal.sum())

    def draws(self, bootstrap: BootstrapConfig) -> Floats:
        """Bootstrap over answers: those to the same problems are drawn alike."""
        n = len(self.rank)
        weights = np.random.default_rng(bootstrap.seed).multinomial(n, np.full(n, 1 / n), bootstrap.resamples)
        return divide(weights @ self.rank, weights @ self.surprisal)

    def effect(self, bootstrap: BootstrapConfig) -> Effect:
        return of_draws(self.value, self.draws(bootstrap))


@dataclass(frozen=True)
class Scored:
    """Answers under the student: their tokens, flat, and the texts of these without spaces around."""

    tokens: Tokens
    texts: Sequence[str]

    def measured(self, label: str, counted: frozenset[str] | None) -> Measured:
        """Of the tokens with these texts; None counts all.

        Raises:
            InputError: there are none.
        """
        mask = np.array([counted is None or text in counted for text in self.texts])
        if not mask.any():
            raise InputError(
                f"{label}: the student's tokenizer has no tokens for these alone, so that none can be counted"
            )
        return self._of(label, mask)

    def first(self, lengths: NDArray[np.int64]) -> Measured:
        """Of the first tokens of each answer."""
        place = np.arange(len(self.texts)) - np.repeat(self.tokens.offsets[:-1], self.tokens.lengths)
        return self._of("", place < np.repeat(lengths, self.tokens.lengths))

    def _of(self, label: str, mask: NDArray[np.bool_]) -> Measured:
        parts = rsr(self.tokens.kept(mask))
        assert parts.denominator is not None
        return Measured(label, np.nan_to_num(parts.numerator), np.nan_to_num(parts.denominator))


def scored(scorer: "Scorer", answers: Sequence[Answer]) -> Scored:
    """Score answers, each a chat of its own.

    Raises:
        InputError: the student's template does not render one verbatim.
    """
    renderer = scorer.student.renderer
    chats = [_rendered(scorer, answer) for answer in answers]
    ids = [chat.ids[position] for chat in chats for position in chat.positions()]
    texts = renderer.tokenizer.batch_decode([[i] for i in ids])
    return Scored(scorer.score(chats), [text.strip() for text in texts])


def _rendered(scorer: "Scorer", answer: Answer) -> RenderedChat:
    prompt, response = answer
    return scorer.student.renderer.render([Message("user", prompt), Message("assistant", response)], scorer.max_length)


@entry("failures", FailuresConfig, open_groups=True)
def main(config: FailuresConfig) -> None:
    from rsr.tokens.engine import Scorer

    scorer = Scorer(students.load(config.student, config.scoring, config.paths), settings_of(config.scoring))
    own_words = config.student.brings.get("teachers") == "miniature"
    shown = (failure_examples.miniature if own_words else failure_examples.english)(
        config.examples, config.bootstrap.seed
    )
    folder = config.paths.results / "failures" / config.student.name
    found = [mechanism(scorer, shown, config, folder) for mechanism in (digits, fluent, closed)]
    conclude(
        folder,
        f"Where RSR goes wrong, {config.student.name}",
        [finding for one in found for finding in one.findings],
        [part for one in found for part in one.parts],
        {f"{one.name}.csv": one.table for one in found},
        examples=config.examples,
        dtype=(config.scoring.dtype or config.student.dtype).value,
    )


@dataclass(frozen=True)
class Mechanism:
    """What is said of one mechanism; its figure is drawn where it is measured."""

    name: str
    findings: Sequence[Finding]
    parts: Sequence[str]
    table: pl.DataFrame


def digits(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Digits that cannot be known: however surprising, their rank among ten is at most about ten."""
    rows, by_kind = [], []
    for sample in (shown.known, shown.unknown):
        answers = scored(scorer, sample.answers)
        even = closed_set(10) if sample is shown.unknown else None
        for kind, counted, form in (("all tokens", None, None), ("digits", shown.digits, even)):
            measured = answers.measured(f"{sample.label}: {kind}", counted)
            by_kind.append(measured)
            rows.append(_row(measured, form, config.bootstrap))
    known, _, unknown, _ = by_kind
    change = of_draws(unknown.value - known.value, unknown.draws(config.bootstrap) - known.draws(config.bootstrap))
    answer = (
        f"Solutions ({known.label.partition(':')[0]}) have RSR {known.value:.2f}, with digits that cannot be known "
        f"({unknown.label.partition(':')[0]}) {unknown.value:.2f}: {_verdict(change)}."
    )
    table = pl.DataFrame(rows)
    parts = [
        "## Digits that cannot be known",
        f"A rank among ten digits is at most about ten, however surprising the digit; evenly drawn digits have RSR "
        f"{closed_set(10):.2f}.",
        *(f"{sample.label.capitalize()}:\n\n> {sample.answers[0][1]}" for sample in (shown.known, shown.unknown)),
        _grid(table, ["label", "rank", "surprisal"]),
    ]
    estimates = [Estimate(r["label"], r["rsr"], r["low"], r["high"], r["closed_form"]) for r in rows]
    forest(
        estimates,
        "Digits that cannot be known",
        "RSR (lower is meant to be better), with 95 % intervals",
        folder / "digits.png",
        labels=("measured", "ten equally likely digits"),
        limits=(0.9 * min(r["low"] for r in rows), 1.05 * max(r["high"] for r in rows)),
    )
    return Mechanism(
        "digits", [_finding("Does RSR prefer digits that cannot be known?", answer, change, config)], parts, table
    )


def fluent(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Fluent text: what the student would write itself has RSR 1 / mean surprisal, and moves a solution there; random digits move
    it to theirs.
    """
    rng, most = Random(f"{config.bootstrap.seed}/appended"), max(config.appended)
    plain = scored(scorer, shown.known.answers)
    solution, lengths = plain.measured("", None), plain.tokens.lengths
    appended = {
        OWN: list(_continued(scorer, shown, most)),
        NOISE: [(p, r + shown.joint + shown.noise(most, rng)) for p, r in shown.known.answers],
    }
    rows, findings = [], []
    for name, answers in appended.items():
        longer = scored(scorer, answers)
        own = float(longer.tokens.surprisal.sum() - plain.tokens.surprisal.sum()) / (
            len(longer.texts) - len(plain.texts)
        )
        rank, surprisal = (1.0, own) if name == OWN else (5.5, float(np.log(10)))
        for tokens in [0, *config.appended]:
            measured = longer.first(lengths + tokens)
            share = tokens / (lengths + tokens)  # of what is appended, in each answer
            form = ((1 - share) * solution.rank + share * rank).sum() / (
                (1 - share) * solution.surprisal + share * surprisal
            ).sum()
            rows.append({"appended": name, "tokens": tokens} | _row(measured, float(form), config.bootstrap))
        change = of_draws(
            measured.value - solution.value, measured.draws(config.bootstrap) - solution.draws(config.bootstrap)
        )
        answer = (
            f"{most} tokens of {name} (mean surprisal {surprisal:.2f}, so 1 / s = {1 / surprisal:.2f}) after a solution move its "
            f"RSR from {solution.value:.2f} to {measured.value:.2f}: {_verdict(change)}, though the solution is the same."
            if name == OWN
            else f"{most} {name} after a solution move its RSR from {solution.value:.2f} to {measured.value:.2f}: "
            f"{_verdict(change)}, though the solution is the same."
        )
        findings.append(_finding(f"What do {name} after a solution do to its RSR?", answer, change, config))
    table = pl.DataFrame(rows).drop("label")
    drawn = []
    for name in appended:
        part = table.filter(appended=name)
        drawn.append(Curve(name, *(part[c].to_list() for c in ("tokens", "rsr", "low", "high", "closed_form"))))
    curves(
        [("", drawn)],
        x_label="tokens appended to a solution",
        y_label="RSR (lower is meant to be better)",
        title="The same solution, more text after it; dashed: closed form",
        path=folder / "fluent.png",
    )
    parts = [
        "## Fluent text",
        "Where every rank is 1, RSR is 1 / mean surprisal: the worse, the surer the student, and it says nothing of whether there "
        "is anything to learn. Closed form: n tokens of mean rank "
        "r and mean surprisal s, and m appended ones of rank 1 and surprisal e, have RSR (n r + m) / (n s + m e); random digits "
        "have rank 5.5 and ln 10 nats.",
        _grid(table, ["appended", "tokens"]),
    ]
    return Mechanism("fluent", findings, parts, table)


def _continued(scorer: "Scorer", shown: Examples, tokens: int) -> Iterator[Answer]:
    """Solutions, each followed by what the student most likely writes next."""
    import torch

    tokenizer = scorer.student.renderer.tokenizer
    model: Any = scorer.student.model
    answers = shown.known.answers
    for start in track(range(0, len(answers), BATCH), "continuing", console=Console(stderr=True)):
        batch = answers[start : start + BATCH]
        chats = [_rendered(scorer, answer) for answer in batch]
        longest = max(chat.turns[0].end for chat in chats)
        ids = torch.full((len(batch), longest), tokenizer.eos_token_id)
        mask = torch.zeros_like(ids)
        for row, chat in enumerate(chats):  # padded on the left
            ids[row, longest - chat.turns[0].end :] = torch.tensor(chat.ids[: chat.turns[0].end])
            mask[row, longest - chat.turns[0].end :] = 1
        written = model.generate(
            ids.to(scorer.student.device),
            attention_mask=mask.to(scorer.student.device),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        for (prompt, _), chat, row in zip(batch, chats, written, strict=True):
            response = row[longest - chat.turns[0].end + chat.turns[0].start :]
            yield prompt, str(tokenizer.decode(response, skip_special_tokens=True))


def closed(scorer: "Scorer", shown: Examples, config: FailuresConfig, folder: Path) -> Mechanism:
    """Tokens drawn evenly from a closed set of k: there is nothing to learn, and RSR is (k + 1) / (2 ln k)."""
    solution = scored(scorer, shown.known.answers).measured(shown.known.label, None)
    rows, by_set = [], []
    for sample in shown.closed:
        assert sample.counted is not None
        by_set.append(
            scored(scorer, sample.answers).measured(f"{sample.label} ({len(sample.counted)})", sample.counted)
        )
        rows.append({"k": len(sample.counted)} | _row(by_set[-1], closed_set(len(sample.counted)), config.bootstrap))
    least = min(by_set, key=lambda measured: measured.value)
    change = of_draws(least.value - solution.value, least.draws(config.bootstrap) - solution.draws(config.bootstrap))
    answer = (
        f"Words drawn evenly from a closed set have RSR {', '.join(f'{m.value:.2f} for {m.label}' for m in by_set)}, "
        f"solutions {solution.value:.2f}: the lowest, of {least.label}, is {_verdict(change)}."
    )
    table = pl.DataFrame(rows).sort("k", "label")
    drawn = [table[name].to_list() for name in ("k", "rsr", "low", "high", "closed_form")]
    level = solution.effect(config.bootstrap)
    ends = drawn[0][0], drawn[0][-1]
    line = Curve("solutions", ends, [level.value] * 2, [level.low] * 2, [level.high] * 2)
    curves(
        [("", [Curve("drawn evenly from k", *drawn), line])],
        x_label="k, size of the closed set",
        y_label="RSR (lower is meant to be better)",
        title="Words that nobody can know, drawn evenly from a closed set; dashed: (k + 1) / (2 ln k)",
        path=folder / "closed.png",
    )
    parts = ["## Small closed sets", _grid(table, ["label", "rank", "surprisal"])]
    return Mechanism(
        "closed", [_finding("Does RSR prefer chance to a solution?", answer, change, config)], parts, table
    )


# --- how it is said ------------------------------------------------------------------------------------------------------


def _row(measured: Measured, form: float | None, bootstrap: BootstrapConfig) -> dict[str, Any]:
    found, filled = measured.effect(bootstrap), measured.rank > 0
    return {
        "label": measured.label,
        "rank": float(measured.rank[filled].mean()),
        "surprisal": float(measured.surprisal[filled].mean()),
        "rsr": found.value,
        "low": found.low,
        "high": found.high,
        "closed_form": form,
    }


def _grid(table: pl.DataFrame, columns: Sequence[str]) -> str:
    def cell(value: object) -> str:
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    rows = [
        [*(cell(row[name]) for name in columns), f"{row['rsr']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"]
        + ["" if row["closed_form"] is None else f"{row['closed_form']:.2f}"]
        for row in table.iter_rows(named=True)
    ]
    return result_folder.markdown_table([*columns, "RSR [95 %]", "closed form"], rows)


def _verdict(change: Effect) -> str:
    if not change.told:
        return "not to be told from no change"
    return "better, as RSR has it" if change.value < 0 else "worse, as RSR has it"


def _finding(question: str, answer: str, change: Effect, config: FailuresConfig) -> Finding:
    basis = f"difference of RSR, {config.examples} problems, bootstrap over them, {config.student.name}"
    return Finding.of(question, answer, change, "ranks per nat", basis)


if __name__ == "__main__":
    main()
