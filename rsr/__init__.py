"""Rank-Surprisal Ratio: which reasoning trajectories will teach a student model best?"""

__version__ = "0.1.0"
