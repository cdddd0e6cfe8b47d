"""Records of files: read again one at a time, and in memory only while they are."""

import gzip
import json
import os
import pickle
import tracemalloc

import polars as pl
import pytest

from rsr.data import discovery
from rsr.data.records import FileRecords
from rsr.errors import InputError

SUFFIXES = (".json", ".jsonl", ".parquet", ".jsonl.gz")
TEXTS = ["so", "naïve ∑ 𝔽", 'with "quotes"\nand lines', "", "last"]
CHATS = [
    {
        "id": f"p{i}",
        "messages": [{"role": "user", "content": f"P{i} {text}"}, {"role": "assistant", "content": f"{text}!"}],
    }
    for i, text in enumerate(TEXTS)
]


def write(path, chats, *, end="\n"):
    if path.suffix == ".parquet":
        pl.DataFrame(chats).write_parquet(path)
    else:
        lines = [json.dumps(chat, ensure_ascii=False) for chat in chats]
        listed = "[" + f" ,{end}  ".join(lines) + end + "]"
        content = (listed if path.suffix == ".json" else end.join(["", *lines, ""])).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_is_read_again_as_it_was_in_any_order_and_process(tmp_path, suffix, end):
    records = FileRecords(write(tmp_path / f"a{suffix}", CHATS, end=end))
    assert [record for _, record in records.scan()] == CHATS
    assert [records[i] for i in (3, 0, -1)] == [CHATS[3], CHATS[0], CHATS[4]]
    assert [*records[1:4]] == CHATS[1:4] and [*pickle.loads(pickle.dumps(records))] == CHATS
    with pytest.raises(IndexError):
        records[5]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_changes_in_use_is_not_read_on(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", CHATS)
    (source,) = discovery.read(path)
    first = source.dataset.trajectories[0]
    assert first.messages[1].content == "so!" and source.records[0] == CHATS[0]
    write(path, [CHATS[1], *CHATS[1:]])
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="has changed while it was in use: give the command again"):
        first.messages[1]
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        source.records[0]


def test_a_folder_takes_the_memory_of_a_file(tmp_path):
    size = 1_000_000
    for i in range(8):
        chats = [
            {
                "id": str(j),
                "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "x" * (size // 5)}],
            }
            for j in range(5)
        ]
        write(tmp_path / f"t{i}.jsonl", chats)
    tracemalloc.start()
    sources = discovery.read(tmp_path)
    digests = {source.dataset.digest() for source in sources}
    assert sum(t.characters for source in sources for t in source.dataset.trajectories) == 8 * 5 * (size // 5 + 1)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(digests) == 1 and kept < size / 2 and peak < 4 * size


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_byte_order_mark_is_passed_over(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    kept = [{"problem": "ä"}, {"problem": "b"}]
    text = json.dumps(kept) if suffix == ".json" else "\n".join(map(json.dumps, kept))
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    file = FileRecords(path)
    assert [record for _, record in file.scan()] == kept == list(file)
