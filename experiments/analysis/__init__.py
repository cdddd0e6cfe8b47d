"""What follows from a study's results."""
