"""What the benchmarks promise, without clocks."""

import json
import subprocess
import sys

import pytest

from experiments.config import ROOT


@pytest.mark.full
def test_memory_does_not_grow_with_length_times_vocabulary():
    def added(length):
        command = [sys.executable, str(ROOT / "benchmarks" / "scoring.py"), "--memory", str(length)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    short, long = added(1024), added(8192)
    growth, full = (long[key] - short[key] for key in ("added_mb", "full_logits_mb"))
    assert growth < 0.03 * full
