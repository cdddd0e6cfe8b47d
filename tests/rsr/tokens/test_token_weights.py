"""Weights of tokens where the student had no choice; tests/train/test_sft.py has them under a real student."""

import numpy as np

from rsr.tokens.token_weights import rsi
from rsr.tokens.tokens import Tokens


def test_a_token_without_a_choice_weighs_nothing():
    """Of the first two the student was sure, and rounding left the second below 0; a sure student may still be wrong."""
    surprisal = np.array([0, -1e-8, 9, 2, 1], np.float32)
    entropy = np.array([0, -1e-8, 0, 1, 2], np.float32)
    tokens = Tokens(np.ones(5, np.uint32), surprisal, entropy, np.array([0, 5]))
    assert rsi(tokens).tolist() == [0, 0, 0, 0.5, 0.5]
