"""Pages made from the code when the documentation is built."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from rsr.metrics import METRICS, Metric
from rsr.metrics.base import MEND


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "metrics.md", content=metric_cards()))
    return files


def metric_cards() -> str:
    """A card for every declared metric."""
    cards = "\n".join(_card(metric) for metric in METRICS.values())
    return (
        "# Metrics\n\nEvery metric as it declares itself. `rsr rank --metric NAME` and `rsr select --metric NAME` take those "
        f"that are computed from stored tokens; they refuse the others by name.\n\n{cards}"
    )


def _card(metric: Metric) -> str:
    facts = {
        "Formula": metric.formula,
        "Unit": metric.unit or "a pure number",
        "Better": metric.direction,
        "Defined for": ", ".join(metric.levels),
        "Costs": metric.cost,
        "Needs besides": "; ".join(f"`{column}`: {MEND[column]}" for column in metric.columns) or "nothing",
        "Depends on the student": "yes" if metric.per_student else "no",
        "Presets": ", ".join(f"`{preset}`" for preset in metric.presets if preset) or "none",
        "Source": metric.source,
    }
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    note = f"\n{metric.note}\n" if metric.note else ""
    return f"## {metric.title}\n\n| `{metric.name}` | |\n| --- | --- |\n{rows}\n{note}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
