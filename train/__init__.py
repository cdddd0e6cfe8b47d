"""Supervised fine-tuning of a student on a teacher's trajectories."""
