"""Trajectories that are scored already, in whatever dataset: found by their content in the stores of the same student and settings."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.store.artefacts import MANIFEST, PARTIAL, Artefact, of_folder
from rsr.tokens.token_store import STAGE, Shard, read_shard, shard_name

READ = ["sha256", "reason"]


class Known:
    """The scored trajectories of all complete token stores whose key is this one but for the data.

    A store or shard that is damaged, or does not say what it holds, is passed over: what it holds is scored anew.
    """

    def __init__(self, root: Path, key: Mapping[str, Any]) -> None:
        self._stores: list[Artefact] = []
        self._places: dict[str, tuple[int, int, int]] = {}  # digest of a trajectory -> store, shard and row
        wanted = json.loads(json.dumps({**key, "data": None}))
        for path in sorted((root / STAGE).glob(f"*/{MANIFEST}")):
            with suppress(InputError, OSError, KeyError, pa.ArrowException):
                store = of_folder(path.parent)
                if path.parent.suffix != PARTIAL and {**store.key, "data": None} == wanted:
                    self._add(store)

    def _add(self, store: Artefact) -> None:
        self._stores.append(store)
        for shard in range(store.facts["shards"]):
            table = pq.read_table(store.path / shard_name(shard), columns=READ)
            for row, (digest, reason) in enumerate(zip(*(table[name].to_pylist() for name in READ), strict=True)):
                if digest and reason is None:
                    self._places[digest] = (len(self._stores) - 1, shard, row)

    def rows(self, trajectories: Sequence[Trajectory]) -> dict[int, Shard]:
        """Of those trajectories that are scored already, by their place here, what a shard holds of them alone."""
        if not self._places:
            return {}
        asked: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for i, trajectory in enumerate(trajectories):
            if trajectory.sha256 in self._places:
                store, shard, row = self._places[trajectory.sha256]
                asked[store, shard].append((i, row))
        found = {}
        for (store, shard), places in asked.items():
            with suppress(InputError):
                held = read_shard(self._stores[store], shard)
                for i, row in places:
                    names = {"ids": [trajectories[i].id], "problems": [trajectories[i].problem]}
                    found[i] = replace(held.part(row, row + 1), **names)
        return found
