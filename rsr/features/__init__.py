"""What metrics are computed from, besides token statistics: gradients, influence, local surprisal, a judge, text."""
