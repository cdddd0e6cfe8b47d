"""Loops: RSR is moved by them, RSR without repeats is not."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.app.shared_configs import PathsConfig, StudentConfig
from experiments.stages.students import model_of
from rsr.data.messages import Message
from rsr.metrics.repetition import repetition, rsr_without_repeats
from rsr.metrics.token import rsr
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.repetition import repeated, repeats
from rsr.tokens.settings import Scoring
from rsr.tokens.tokens import Tokens


def test_an_empty_command_again_and_again_looks_good_to_rsr_alone():
    """What is copied has rank 1 and little surprisal, as long as the student is not sure of it."""
    command = np.arange(6)  # its tokens, which are worse than those of work
    loop, work = np.tile(command, 20), np.arange(100, 220)
    again = np.arange(len(loop)) >= len(command)
    ranks = np.concatenate([np.where(again, 1, 8), np.full(len(work), 6)])
    surprisals = np.concatenate([np.where(again, 0.5, 2.0), np.full(len(work), 2.0)])
    tokens = Tokens(
        ranks.astype(np.uint32),
        surprisals.astype(np.float32),
        surprisals.astype(np.float32),
        np.array([0, len(loop), len(loop) + len(work)]),
        repeated=np.concatenate([repeated(loop), repeated(work)]),
    )
    assert repetition(tokens).values.tolist() == [0.95, 0]
    looping, working = rsr(tokens).values
    assert looping < working  # lower is better
    assert rsr_without_repeats(tokens).values == pytest.approx([4, 3]) and working == pytest.approx(3)


@pytest.mark.full
def test_a_real_student_finds_a_loop_better_at_first_and_then_worse():
    """Its first repeat lowers RSR. Later the student is sure of it, and RSR rises: neither says anything of the answer."""
    smollm2 = model_of(StudentConfig(name="smollm2", model=None, recipe="smollm2"), PathsConfig())
    scorer = Scorer(students.load(smollm2, dtype="float32", device="cpu"), Scoring())
    reply = Message("assistant", "Let me look at the output again to see what is wrong with the test.")
    found = {}
    for rounds in (1, 2, 8):
        asked = [Message("user", "Fix the failing test."), *[reply, Message("user", "ok")] * rounds][:-1]
        chats = [scorer.student.renderer.render(asked)]
        tokens = replace(scorer.score(chats), repeated=repeats([chats]))
        found[rounds] = [metric(tokens).values[0] for metric in (repetition, rsr, rsr_without_repeats)]
    assert [found[rounds][0] for rounds in found] == [0, 1 / 2, 7 / 8]
    assert found[2][1] < found[1][1] - 0.1 and found[8][1] > found[1][1] + 0.5
    assert [found[rounds][2] for rounds in found] == pytest.approx([found[1][1]] * 3, rel=1e-3)
