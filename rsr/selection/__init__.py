"""From scores to decisions: the order of datasets, and which trajectories to train on."""
