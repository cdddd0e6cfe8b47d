"""The study: a command a table or figure, and the rooms that serve them."""

import sys
from pathlib import Path

# Python puts the folder of a script first on the path. From there a script such as train.py would hide the package
# `train`, so the folder is taken off; the scripts import what they share as `experiments.<module>`.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE]
