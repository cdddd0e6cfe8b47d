"""Whether an answer is right: mathematics and programs, graded in confined processes."""
