"""Weights & Biases, where it is asked for: tables of scores, evaluations and correlations; training reports by itself."""

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from experiments.app.shared_configs import TrackingConfig, Wandb
from rsr.errors import InputError


def prepare(tracking: TrackingConfig, outputs: Path) -> None:
    """Tell wandb where to report to; trainers in child processes read it from the environment.

    Raises:
        InputError: it is asked for and not installed.
    """
    if tracking.wandb is Wandb.off:
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise InputError(f"tracking.wandb={tracking.wandb.value} needs wandb: pip install wandb") from error
    outputs.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "WANDB_MODE": tracking.wandb.value,
        "WANDB_PROJECT": tracking.project,
        "WANDB_DIR": str(outputs),
        "WANDB_SILENT": "true",
    }


def finish(tracking: TrackingConfig) -> None:
    """End the run that a trainer has begun, which the next one would go on in."""
    if tracking.wandb is Wandb.off:
        return
    import wandb

    wandb.finish()


def log(tracking: TrackingConfig, name: str, tables: Mapping[str, pl.DataFrame]) -> None:
    """Log tables as one run; nothing where wandb is off."""
    if tracking.wandb is Wandb.off:
        return
    import wandb

    with wandb.init(name=name) as run:
        run.log({key: wandb.Table(columns=[*table.columns], data=table.rows()) for key, table in tables.items()})
