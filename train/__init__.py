"""Supervised fine-tuning of students on teachers' trajectories."""

from train.settings import LoRA, Overlong, Training
from train.sft import Base, Tracking, fine_tune

__all__ = ["Base", "LoRA", "Overlong", "Tracking", "Training", "fine_tune"]
