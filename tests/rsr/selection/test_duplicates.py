"""Near-duplicates are found whatever the order, and chats on one subject are none."""

import random

from rsr.selection.duplicates import clusters

WORDS = [
    "we",
    "add",
    "the",
    "two",
    "numbers",
    "and",
    "carry",
    "one",
    "then",
    "check",
    "that",
    "sum",
    "is",
    "right",
    "because",
    "it",
    "must",
    "be",
    "even",
]


def text(seed, n=200):
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def groups(texts):
    """The texts of each cluster."""
    found = clusters(texts)
    return sorted(sorted(t for t, c in zip(texts, found, strict=True) if c == of) for of in {*found})


def test_near_duplicates_are_one_cluster_in_any_order():
    one, other = text(1), text(2)
    changed = one.replace(one.split()[30], "five", 1)
    texts = [one, one.upper() + "!", changed, other, "42", "41", ""]
    found = groups(texts)
    assert [len(group) for group in found if one in group] == [3]
    assert len(found) == 5
    assert groups(texts[::-1]) == found
