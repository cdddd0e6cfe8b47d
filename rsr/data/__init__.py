"""Trajectories: read, found, written and compared with evaluation sets."""
