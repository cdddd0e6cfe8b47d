"""Supervised fine-tuning of students on teachers' trajectories, and reinforcement of what they have learned."""

from train.grpo import Task, reinforce
from train.settings import LoRA, Overlong, Reinforcement, Training
from train.sft import Base, Tracking, fine_tune

__all__ = [
    "Base",
    "LoRA",
    "Overlong",
    "Reinforcement",
    "Task",
    "Tracking",
    "Training",
    "fine_tune",
    "reinforce",
]
