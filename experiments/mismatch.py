"""Scores under one student against the performance of another: how fast does the correlation fall?

    python experiments/mismatch.py                                    # the paper's five students, from published numbers
    python experiments/mismatch.py student=miniature 'others=[miniature_sticky]' metric=tokens
    python experiments/mismatch.py student=qwen3b source=measured 'others=[qwen7b]' metric=tokens run=true

For every metric that depends on the student: Spearman of the scores under each setting (student, and where it is measured
dtype) with each student's accuracy, and what is lost against a student's own scores. Writes results/mismatch/<student>/.
"""

import polars as pl

from experiments.analysis.mismatch import measured_crossings, published_crossings
from experiments.analysis.transfer import losses
from experiments.app import result_folder
from experiments.app.command_configs import MismatchConfig
from experiments.app.conclusions import conclude
from experiments.app.entry import entry
from experiments.app.shared_configs import reads_published
from experiments.reports.transfer import cells, conclusions, draw, report, rows


@entry("mismatch", MismatchConfig, open_groups=True)
def main(config: MismatchConfig) -> None:
    printed = reads_published(config.source, config.teachers)
    crossed = list(published_crossings(config) if printed else measured_crossings(config))
    lost = {crossing.metric.name: losses(crossing, config.bootstrap) for crossing in crossed}
    folder = result_folder.folder_of(config, "mismatch")
    matrices = pl.DataFrame([row for crossing in crossed for row in cells(crossing)])
    tables = {
        "matrix.csv": matrices,
        "effects.csv": pl.DataFrame([r for crossing in crossed for r in rows(crossing, lost)]),
    }
    conclude(
        folder,
        f"Scores under one student, performance of another: {', '.join(own.student for own in crossed[0].own)}",
        conclusions(crossed, lost),
        report(crossed, lost),
        tables,
        source="published" if printed else "measured",
    )
    draw(crossed, folder)


if __name__ == "__main__":
    main()
