"""Seconds and tokens that the manifests of finished stages record."""

import json
from collections.abc import Iterator
from typing import Any

from experiments.app.shared_configs import PathsConfig
from rsr.metrics import METRICS
from rsr.metrics.base import Need
from rsr.store.artefacts import MANIFEST, of_folder

# Folders of measurements, and the needs of the metrics that are computed from them.
STAGES: dict[str, tuple[Need, ...]] = {
    "tokens": ("tokens", "graded"),
    "text": ("text",),
    "steps": ("steps",),
    "step_heads": ("step_heads",),
    "responses_alone": ("responses_alone",),
    "activations": ("activations",),
    "gradients": ("gradients",),
    "curvature": ("influence",),  # made once; the trajectories follow
    "influence": ("influence",),
    "judgements": ("endpoint", "judged"),
}
OF_TOKENS = "RSR, all token metrics and CAR"  # too many to be named


def measured_rows(paths: PathsConfig) -> list[list[str]]:
    """Per student and measurement: datasets, tokens read and seconds, from the manifests of runs that read any.

    The ratio to RSR is that of seconds over the datasets that both were measured for, on one machine as it was then; what
    needs no pass of the student is compared with its first RSR. The curvature has no ratio, being made once for all
    datasets.
    """
    all_runs = [run for stage in STAGES for run in _runs(paths, stage)]
    rsr: dict[tuple[str, str], float] = {}
    for run in sorted(all_runs, key=lambda run: run["measurement"]):  # without expected ranks first
        if run["stage"] == "tokens":
            for name in (run["student"], run["student"].split(", ")[0]):
                rsr.setdefault((name, run["data"]), run["seconds"])
    rows = []
    for student, measurement in dict.fromkeys((run["student"], run["measurement"]) for run in all_runs):
        runs = [run for run in all_runs if (run["student"], run["measurement"]) == (student, measurement)]
        stage = runs[0]["stage"]
        shared = [run for run in runs if (student, run["data"]) in rsr]
        tokens, seconds = sum(run["tokens"] for run in runs), sum(run["seconds"] for run in runs)
        of_rsr = sum(rsr[student, run["data"]] for run in shared)
        ratio = f"{sum(run['seconds'] for run in shared) / of_rsr:.2g}" if of_rsr else "-"
        metrics = ", ".join(m.title for m in METRICS.values() if m.needs in STAGES[stage])
        name = OF_TOKENS if stage == "tokens" else metrics
        rows.append([student, f"{measurement}: {name}", f"{len(runs)}", f"{tokens:,.0f}", f"{seconds:,.0f}", ratio])
    return rows


def _runs(paths: PathsConfig, stage: str) -> Iterator[dict[str, Any]]:
    for path in sorted((paths.outputs / stage).glob(f"*/{MANIFEST}")):
        facts = of_folder(path.parent).facts
        identity = facts["key"].get("student", {})
        expectations = stage == "tokens" and facts["key"]["scoring"].get("expectations")
        if facts["tokens_in_those_seconds"] or stage == "text":
            yield {
                "student": ", ".join([facts["student"], *(identity[k] for k in ("dtype", "device") if k in identity)]),
                "stage": stage,
                "measurement": f"{stage} with expected ranks" if expectations else stage,
                "data": json.dumps(facts["key"]["data"]),
                "tokens": facts["tokens_in_those_seconds"],
                "seconds": facts["seconds"],
            }
