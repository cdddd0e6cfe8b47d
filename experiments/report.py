"""One page to read it all: the published numbers, what follows from them, what was measured here.

    python experiments/report.py

Puts together whatever lies under results/, and names the command for what is not there. Writes results/report.html, one
self-contained file, and results/report.md.
"""

from experiments.app.command_configs import ReportConfig
from experiments.app.entry import entry
from experiments.app.page import page
from experiments.reports.results_page import html, markdown
from rsr.errors import printable
from rsr.store.artefacts import write_text, writing


@entry("report", ReportConfig)
def main(config: ReportConfig) -> None:
    results = config.paths.results
    with writing(results):
        results.mkdir(parents=True, exist_ok=True)
        write_text(results / "report.html", page("The rank-surprisal ratio study", html(results)))
        write_text(results / "report.md", markdown(results))
    print(printable(f"Written to {results / 'report.html'} and report.md"))


if __name__ == "__main__":
    main()
