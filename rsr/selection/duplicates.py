"""Near-duplicates among chats: those that share most of their runs of words.

Chats are compared by MinHash (Broder 1997), and only those that locality-sensitive hashing brings together, so that the time grows
with their number and not with its square.
"""

from collections.abc import Iterable

from rsr.data.contamination import windows, words

RUN = 5  # words in a row
ALIKE = 0.8  # share of runs in common, of all runs of two chats, from which on they are near-duplicates


def clusters(texts: Iterable[str]) -> list[int]:
    """For each text the place of one of its cluster: texts that are near-duplicates of one another, or of a third. The clusters do not
    depend on the order of the texts.
    """
    from datasketch import MinHash, MinHashLSH

    near = MinHashLSH(threshold=ALIKE, num_perm=MinHash().num_perm)
    hashes: list[MinHash] = []
    above: list[int] = []  # of each text another of its cluster, or itself

    def top(place: int) -> int:
        while above[place] != place:
            place = above[place]
        return place

    for place, text in enumerate(texts):
        hashed, spoken = MinHash(), words(text)
        hashed.update_batch({" ".join(run).encode() for run in windows(spoken, max(1, min(RUN, len(spoken))))})
        above.append(place)
        for other in near.query(hashed):
            if hashed.jaccard(hashes[other]) >= ALIKE:
                above[top(other)] = place
        hashes.append(hashed)
        near.insert(place, hashed)
    return [top(place) for place in range(len(above))]
