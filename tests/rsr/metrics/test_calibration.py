"""Calibrated RSR of tokens that a student expects: about 1, whatever its RSR."""

import numpy as np
import pytest
import torch

from rsr.metrics.calibration import calibrated_rsr
from rsr.metrics.token import rsr
from rsr.tokens.statistics import token_statistics
from rsr.tokens.tokens import Tokens

TRAJECTORIES, LENGTH, VOCABULARY = 20, 200, 300


def scored(logits, targets):
    """20 trajectories of 200 tokens."""
    rank, *others = (part.numpy() for part in token_statistics(logits, targets, expectations=True))
    surprisal, entropy, squares, expected = others
    offsets = np.arange(TRAJECTORIES + 1) * LENGTH
    return Tokens(rank.astype(np.uint32), surprisal, entropy, offsets, squares, expected)


def of_dataset(metric, tokens):
    parts = metric(tokens)
    return parts.numerator.mean() / parts.denominator.mean()


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 5.0])
def test_the_students_own_samples_come_out_near_1(sharpness):
    generator = torch.Generator().manual_seed(0)
    logits = sharpness * torch.randn(TRAJECTORIES * LENGTH, VOCABULARY, generator=generator)
    tokens = scored(logits, torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0])
    assert of_dataset(calibrated_rsr, tokens) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("members", [2, 10])
def test_flips_and_digits_come_out_near_1_though_their_rsr_is_low(members):
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((TRAJECTORIES * LENGTH, VOCABULARY), -20.0)
    logits[:, :members] = 0.01 * torch.randn(TRAJECTORIES * LENGTH, members, generator=generator)  # no ties
    tokens = scored(logits, torch.randint(members, (TRAJECTORIES * LENGTH,), generator=generator))
    assert of_dataset(rsr, tokens) == pytest.approx((members + 1) / (2 * np.log(members)), rel=0.05)
    assert of_dataset(calibrated_rsr, tokens) == pytest.approx(1, abs=0.05)
    assert calibrated_rsr(tokens).values == pytest.approx(1, abs=0.25)
