"""A second domain for the miniature: short programs over lists, graded by running them.

Problems name a few operations on a list of items; the answer is a program in a small part of Python, one token a word, that
is checked on hidden inputs. The situation is that of the sums: the corpus's *dominant* habit follows all operations in one
line, which fails beyond one or two of them, and its rare *minor* habit follows them one at a time.
Read in this order: world, corpus, teachers.
"""
