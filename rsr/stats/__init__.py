"""Statistics of the comparison: correlations, effects, intervals, and what rounding leaves open."""
