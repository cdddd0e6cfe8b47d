"""Accuracy of a student on benchmarks."""
