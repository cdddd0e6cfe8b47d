"""GRACE against the authors' code on given projections."""

import json

import numpy as np
import polars as pl
import pytest

from rsr.metrics import METRICS


@pytest.mark.parametrize("case", ["iso_60x4_d32", "aniso_200x1_d64", "few_30x2_d128"])
def test_grace_agrees_with_the_authors_code(shared, case):
    folder = shared / "golden" / "grace"
    (expected,) = (c for c in json.loads((folder / "expected.json").read_text()) if c["case"] == case)
    z = np.load(folder / f"{case}.npy").astype(np.float64)
    m = expected["generations"]
    rows = pl.DataFrame(
        {
            "projection": z.tolist(),
            "problem": [f"{i // m:05d}" for i in range(len(z))],
            "tokens": [9] * len(z),
            "weights": [z.shape[1]] * len(z),  # as many as dimensions: entries of +-1 / sqrt(D) change nothing
        }
    )
    assert METRICS["grace"](rows, "grace-author-code").values == pytest.approx([expected["grace"]], rel=1e-6)
