"""Supervised fine-tuning of students on teachers' trajectories."""
