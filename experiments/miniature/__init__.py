"""A miniature of the study that needs no network and no GPU: a world of small sums, its students and its teachers.

The situation of the paper is built by competence. A student is trained on a corpus whose *dominant* habit, summing all
numbers in one line, mostly fails, and whose *minor* habit, partial sums one number at a time, mostly works, but is rare.
Teachers then write the same problems in eleven ways. Read in this order: words, world, corpus, teachers, student.

Two worlds differ in the corpus alone. In "memoryless" each line chooses its habit afresh; in "sticky" a document chooses
once. docs/notebook.md lists every world that was tried, with its result.
"""
