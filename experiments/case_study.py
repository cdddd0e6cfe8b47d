"""The same problem by every teacher, token by token (the form of Table 12).

    python experiments/case_study.py student=smollm2 teachers=FOLDER problem=3

Colours each response token by its rank under the student, shows the tokens with the highest and the lowest token RSR,
and writes the coloured trajectories (values on hover) to results/case_study/<student>[-<teachers>]/trajectories.html.
"""

from rich.console import Console

from experiments.app import result_folder
from experiments.app.command_configs import CaseStudyConfig
from experiments.app.entry import entry
from experiments.app.page import BODY, page
from experiments.stages import students, teacher_data
from experiments.stages.scoring import settings_of
from rsr.cli.terminal import coloured
from rsr.data.trajectories import Dataset, Trajectory
from rsr.errors import InputError, printable
from rsr.metrics.token import rsr
from rsr.store.artefacts import writing
from rsr.tokens.tokens import Tokens
from rsr.views.heatmap import Token, legend, to_html, tokens_of
from rsr.views.html import render

EXTREMES = 8


@entry("case_study", CaseStudyConfig, open_groups=True)
def main(config: CaseStudyConfig) -> None:
    from rsr.tokens.engine import Scorer

    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    problem, answers = _answers(data, config.problem)
    student = students.load(config.student, config.scoring, config.paths)
    scorer = Scorer(student, settings_of(config.scoring))
    console = Console(highlight=False)
    columns = []
    for dataset, trajectory in answers:
        chats = student.renderer.chats(trajectory.messages, scorer.max_length, trajectory.tool_schemas)
        scored = scorer.score(chats)
        tokens = [t for i, chat in enumerate(chats) for t in tokens_of(student.renderer, chat, scored, i, config.r_max)]
        title = _title(dataset, scored, len(tokens))
        shown = tokens[: config.tokens]
        console.print(f"\n{title}", style="bold", markup=False)
        console.print(coloured(shown))
        if len(shown) < len(tokens):
            console.print(
                f"(the first {len(shown)} of {len(tokens)} tokens; tokens={len(tokens)} shows all)", style="dim"
            )
        columns.append(
            {
                "title": title,
                "tokens": to_html(shown),
                "shown": len(shown),
                "of": len(tokens),
                "extremes": _extremes(tokens),
            }
        )
    folder = result_folder.folder_of(config, "case_study")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        title = f"Problem {config.problem} under {config.student.name}"
        body = render("experiments.reports", "case_study.jinja", problem=problem, columns=columns, legend=legend())
        (folder / BODY).write_text(body, encoding="utf-8")  # for the report
        (folder / "trajectories.html").write_text(page(title, body), encoding="utf-8")
        result_folder.write_record(folder)
    print(printable(f"Written to {folder}"))


def _answers(data: list[Dataset], number: int) -> tuple[str, list[tuple[Dataset, Trajectory]]]:
    first = data[0].trajectories
    if not 0 <= number < len(first):
        raise InputError(f"problem={number}: {data[0].name} holds problems 0 to {len(first) - 1}")
    key = first[number].problem
    answers = [(d, t) for d in data for t in d.trajectories if t.problem == key]
    problem = next((m.content for m in first[number].messages if m.role == "user"), "")
    return problem, answers


def _title(dataset: Dataset, scored: Tokens, n: int) -> str:
    if not n:
        return f"{dataset.name}: no value, no response token is left"
    return f"{dataset.name}: RSR {rsr(scored.parted([n])).values[0]:.2f}, {n} tokens, mean surprisal {scored.surprisal.mean():.2f}"


def _extremes(tokens: list[Token]) -> dict[str, list[Token]]:
    """The tokens of lowest and highest token RSR among those with a surprisal above 0.1 nats, by what to call them."""
    ranked = sorted((t for t in tokens if t.surprisal > 0.1), key=lambda t: t.ratio)
    return {"lowest token RSR": ranked[:EXTREMES], "highest token RSR": ranked[::-1][:EXTREMES]}


if __name__ == "__main__":
    main()
