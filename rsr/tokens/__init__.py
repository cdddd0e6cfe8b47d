"""Token statistics: rank, surprisal and entropy of every response token, computed and stored."""
