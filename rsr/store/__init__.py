"""Artefacts on disk: folders keyed by everything that shapes their content."""
