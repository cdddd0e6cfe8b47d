"""Figures, token heat maps and the inspection of one trajectory."""
