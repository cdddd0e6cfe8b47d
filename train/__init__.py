"""Supervised fine-tuning of students on teachers' trajectories, and reinforcement of what they have learned."""
