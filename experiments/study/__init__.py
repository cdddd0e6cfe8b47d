"""A whole study: its cells, their order, their cost and their results."""
