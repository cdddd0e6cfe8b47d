"""Bad input at the command line: one line on standard error, the right exit status, nothing lost, never a traceback."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rsr import score
from rsr.cli import run as rsr_here  # in this process, which has torch already
from tests.clients import alpaca, chat, replies, rsr, teachers, write
from tests.models import save

pytestmark = pytest.mark.full

GOOD = json.dumps(chat(0, "Fine: \\boxed{42}"))
FILES: dict[str, Any] = {  # name -> content, of files that are wrong in one way each
    "empty.json": "",
    "empty.jsonl": "",
    "no_records.json": "[]",
    "object.json": "{}",
    "cut.json": f"[{GOOD},",
    "open.json": f"[{GOOD}",
    "more.json": f"[{GOOD}] more",
    "broken.jsonl": f"{GOOD}\n{{",
    "bytes.jsonl": b'{"messages": "\xff\xfe"}',
    "fake.parquet": "PAR1 but not really",
    "text.txt": "hello",
    "number.jsonl": "3",
    "no_chat.jsonl": '{"text": "hello"}',
    "no_messages.jsonl": '{"messages": []}',
    "role.jsonl": '{"messages": [{"role": "teacher", "content": "x"}]}',
    "no_reply.jsonl": '{"messages": [{"role": "user", "content": "x"}]}',
    "blank.jsonl": json.dumps(chat(0, " ")),
    "assistant_first.jsonl": '{"messages": [{"role": "assistant", "content": "x"}]}',
    "content.jsonl": '{"messages": [{"role": "user", "content": 7}]}',
    "literal.jsonl": '{"messages": "open(1)"}',
    "surrogate.jsonl": json.dumps(chat(0, "\ud800")),
    "twice.jsonl": "\n".join([json.dumps(chat(i, "x", id="a")) for i in (0, 1)]),
    "id.jsonl": json.dumps(chat(0, "x", id=[1])),
    "correct.jsonl": json.dumps(chat(0, "x", correct="yes")),
    "from.jsonl": '{"conversations": [{"from": "bot", "value": "x"}]}',
    "deep.jsonl": "[" * 100_000,
    "huge.jsonl": json.dumps(chat(0, "x" * 3_000_000)) + "\n" + "{" * 5,
    "samples.jsonl": '{"sample_id": 1, "avg_rank_clip": 2}',
    "nan.jsonl": '{"sample_id": 1, "resp_token_length": 1, "avg_rank_clip": 2, "avg_surprisal": NaN, '
    '"rank_surprisal_ratio": 1}',
    "evaluation.jsonl": '{"answer": 42}',
    "latin.jinja": b"{# caf\xe9 #}{{ messages }}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model, data, scores of it, and everything that is wrong."""
    folder = tmp_path_factory.mktemp("cli")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    save(folder / "model")
    save(folder / "no_template", template=None)
    shutil.copytree(folder / "model", folder / "no_weights", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(folder / "model", folder / "damaged")
    (folder / "damaged" / "model.safetensors").write_bytes(b"\0" * 100)
    teachers(folder / "data")
    write(folder / "others" / "terse" / "gen1.json", [chat(i, "x", id=f"q{i}") for i in range(3)])
    write(folder / "apart" / "a.json", [chat(i, r, id=f"a{i}") for i, r in enumerate(replies("a", 3))])
    write(folder / "apart" / "b.json", [chat(i, r, id=f"b{i}") for i, r in enumerate(replies("b", 3))])
    wrong = [chat(i, r, id=f"p{i}", answer="42") for i, r in enumerate(replies("a", 3, right=lambda i: False))]
    write(folder / "wrong.json", wrong)
    write(folder / "mixed" / "a.json", [chat(i, r, id=f"p{i}") for i, r in enumerate(replies("a", 3))])
    write(folder / "mixed" / "b.json", [alpaca(i, r, id=f"q{i}") for i, r in enumerate(replies("b", 3))])
    (folder / "twins").mkdir()
    for suffix in (".json", ".jsonl"):
        write(folder / "twins" / f"a{suffix}", [chat(0, "x")])
    (folder / "bare").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("precious")
    kept = {"scores": "data", "apart-scores": "apart", "wrong-scores": "wrong.json", "mixed-scores": "mixed"}
    for name, data in kept.items():
        scores = score(folder / "model", folder / data, outputs=folder / "kept")
        (folder / name).symlink_to(scores.artefact.path)
    (folder / "inside").mkdir()
    (folder / "inside" / "b\udcff.jsonl").write_text(GOOD)
    (folder / "half").mkdir()
    (folder / "half" / "manifest.json").write_text('{"key": {"stage": "scores"}}')
    return folder


OFFLINE = os.environ | {"HF_HUB_OFFLINE": "1"}  # without a network the hub is tried for a minute
SCORE = ["score", "--student", "model"]
SELECT = ["select", "--scores", "scores", "data", "-o", "new"]
CASES = [
    # usage
    (["frobnicate"], 2, "No such command 'frobnicate'"),
    (["score", "data"], 2, "Missing option '--student'"),
    (["score", "--student", "model"], 2, "Missing argument 'DATA...'"),
    ([*SCORE, "data", "--colour"], 2, "No such option '--colour'"),
    ([*SCORE, "data", "--dtype", "int8"], 2, "'int8' is not one of"),
    ([*SCORE, "data", "--sample", "0"], 2, "0 is not in the range x>=1"),
    ([*SCORE, "data", "--sample", "many"], 2, "'many' is not a valid integer"),
    (["rank", "--scores", "scores", "data"], 2, "--scores says all"),
    (["rank", "--scores", "scores", "--by", "source"], 2, "--by source: fields are in the records: give DATA, too"),
    ([*SCORE, "data", "--field", "model"], 2, "--field 'model' is not OURS=THEIRS"),
    (["rank", "--scores", "scores", "--resamples", "5"], 2, "5 is not in the range"),
    (["select", "--scores", "scores", "data"], 2, "Missing option '--output'"),
    ([*SELECT, "--per-problem", "some"], 2, "neither a number nor 'all'"),
    ([*SELECT, "--student", "model"], 2, "give one"),
    (["compare", "scores"], 2, "Missing argument 'SECOND'"),
    # students
    (["score", "--student", "./nowhere", "data"], 1, "./nowhere: no such model folder"),
    (["score", "--student", "", "data"], 1, "the student is empty"),
    (
        ["score", "--student", "empty.json", "data"],
        1,
        "empty.json: a file, where a model folder or a hub name is wanted",
    ),
    (["score", "--student", "data", "data"], 1, "data: no model folder, config.json is missing"),
    (["score", "--student", "no_weights", "data"], 1, "no_weights: holds no weights (model.safetensors or"),
    (["score", "--student", "no_template", "data"], 1, "the tokenizer has no chat template"),
    (["score", "--student", "damaged", "data"], 1, "damaged: cannot be loaded"),
    (
        ["score", "--student", "nobody/nothing", "data"],
        1,
        "nobody/nothing: no folder here, and cannot be loaded from the hub",
    ),
    ([*SCORE, "data", "--dtype", "float32", "--max-length", "9999"], 1, "beyond the 2048 positions of model"),
    ([*SCORE, "data", "--device", "abacus"], 1, "device 'abacus' cannot be used"),
    ([*SCORE, "data", "--template", "qwen"], 1, "no chat template 'qwen'"),
    ([*SCORE, "data", "--template-variable", "date"], 2, "'date' is not NAME=VALUE"),
    # files
    ([*SCORE, "nowhere"], 1, "nowhere: no such file or folder: give a path that is there, or hub:OWNER/NAME"),
    ([*SCORE, "bare"], 1, "bare: holds no .json, .jsonl, .parquet, .arrow"),
    ([*SCORE, "text.txt"], 1, "text.txt: trajectories are read from"),
    ([*SCORE, "twins"], 1, "are the same teacher and generation"),
    ([*SCORE, "data", "data"], 1, "are both called 'terse/gen1': name them with NAME=FILE"),
    ([*SCORE, "hub:nobody/nothing"], 1, "hub:nobody/nothing: cannot be downloaded"),
    ([*SCORE, "empty.json"], 1, "a JSON file holds a list of records, this one starts with nothing"),
    ([*SCORE, "empty.jsonl"], 1, "empty.jsonl: is empty"),
    ([*SCORE, "no_records.json"], 1, "no_records.json: is empty"),
    ([*SCORE, "object.json"], 1, "object.json: no 'messages', 'conversations'"),
    ([*SCORE, "cut.json"], 1, "cut.json, line 1: not valid JSON"),
    ([*SCORE, "open.json"], 1, "the list is not closed"),
    ([*SCORE, "more.json"], 1, "there is more text after the end of the list"),
    ([*SCORE, "broken.jsonl"], 1, "broken.jsonl, line 2: not valid JSON"),
    ([*SCORE, "bytes.jsonl"], 1, "bytes.jsonl: not UTF-8 text (byte 14)"),
    ([*SCORE, "fake.parquet"], 1, "fake.parquet: not a readable Parquet file"),
    ([*SCORE, "deep.jsonl"], 1, "nested too deeply"),
    ([*SCORE, "huge.jsonl"], 1, "huge.jsonl, line 2: not valid JSON"),
    # records
    ([*SCORE, "number.jsonl"], 1, "number.jsonl, line 1: a record is an object"),
    ([*SCORE, "no_chat.jsonl"], 1, "it has text"),
    ([*SCORE, "no_messages.jsonl"], 1, "'messages' is empty"),
    ([*SCORE, "role.jsonl"], 1, "message 0 has the role 'teacher'"),
    ([*SCORE, "no_reply.jsonl"], 1, "no assistant message"),
    ([*SCORE, "blank.jsonl"], 1, "an assistant message is empty"),
    ([*SCORE, "assistant_first.jsonl"], 1, "the chat starts with the assistant"),
    ([*SCORE, "content.jsonl"], 1, "the content of message 0 is text, not a int"),
    ([*SCORE, "literal.jsonl"], 1, "neither JSON nor a Python literal"),
    ([*SCORE, "surrogate.jsonl"], 1, "holds half a character"),
    ([*SCORE, "twice.jsonl"], 1, "a second record with the id 'a'"),
    ([*SCORE, "id.jsonl"], 1, "'id' is text or a number"),
    ([*SCORE, "correct.jsonl"], 1, "'correct' is true or false, or 1 or 0, not text"),
    ([*SCORE, "from.jsonl"], 1, "message 0 has the role 'bot'"),
    ([*SCORE, "--on-error", "skip", "role.jsonl"], 1, "all 1 records are malformed, the first"),
    ([*SCORE, "data", "--field", "correct=verdict"], 1, "no record has a field 'verdict'; they have "),
    ([*SCORE, "data", "--field", "quality=x"], 1, "no field is read as 'quality'; those that are: teacher"),
    # places that are no UTF-8 text
    ([*SCORE, "data", "--outputs", "o\udcff"], 1, r"'o\udcff' is no UTF-8 text: give it a name that is"),
    ([*SCORE, "data", "--template-variable", "x=\udcff"], 1, r"'x=\udcff' is no UTF-8 text"),
    ([*SCORE, "inside"], 1, r"b\udcff.jsonl' is no UTF-8 text"),
    ([*SCORE, "data", "--template", "latin.jinja"], 1, "latin.jinja: not UTF-8 text (byte 6)"),
    # ranking
    (["rank", "--scores", "scores", "--by", "source", "data"], 1, "its record has no 'source' to group by"),
    (["rank", "--scores", "bare"], 1, "bare: holds no scores"),
    (["rank", "--scores", "half"], 1, "half/manifest.json: cannot be read"),
    (["rank", "--scores", "scores", "--metric", "rssr"], 1, "unknown metric 'rssr': did you mean 'rsr'?"),
    (["rank", "--scores", "scores", "--metric", "g_norm"], 1, "the scores hold no g_norm"),
    (["rank", "--scores", "scores", "--preset", "r_max=7"], 1, "the scores hold no rsr (r_max=7); its presets are"),
    (["rank", "--scores", "apart-scores"], 1, "0 of 6 problems have a value in all 2 datasets"),
    # selecting
    ([*SELECT, "--top", "0"], 1, "top 0 is too small"),
    ([*SELECT, "--share", "2"], 1, "share 2.0 is no share"),
    ([*SELECT, "--top", "3", "--tokens", "9"], 1, "top and tokens are both sizes"),
    ([*SELECT, "--tokens", "1"], 1, "nothing is selected: all of 6 candidates are beyond the budget of 1 tokens"),
    ([*SELECT, "--quota", "1", "--group", "subject"], 1, "its record has no 'subject' to group by"),
    ([*SELECT, "--against", "nowhere.jsonl"], 1, "nowhere.jsonl: no evaluation set"),
    ([*SELECT, "--against", "evaluation.jsonl"], 1, "evaluation.jsonl, line 1: holds no problem"),
    (["select", "--scores", "scores", "data", "-o", "full"], 1, "full: holds something else already"),
    (["select", "--scores", "scores", "others", "-o", "new"], 1, "has changed since it was scored as terse/gen1"),
    (["select", "--scores", "scores", "wrong.json", "-o", "new"], 1, "wrong: there are no scores of it"),
    (["select", "--scores", "mixed-scores", "mixed", "-o", "new"], 1, "mixed formats (alpaca, messages)"),
    (
        ["select", "--scores", "wrong-scores", "wrong.json", "-o", "new", "--correct", "only"],
        1,
        "nothing is selected: all of 3 candidates are not known to be correct",
    ),
    # inspecting and comparing
    (["inspect", "--student", "model", "data", "--trajectory", "p99"], 1, "terse/gen1 holds 6, wordy/gen1 holds 6"),
    (["compare", "scores", "nowhere"], 1, "nowhere: no such file or folder"),
    (["compare", "scores", "bare"], 1, "bare: holds no scores"),
    (["compare", "scores", "samples.jsonl"], 1, "no sample of the reference implementation: resp_token_length"),
    (["compare", "scores", "more.json"], 1, "more.json is not what `rsr score --json` prints"),
    (["compare", "scores", "nan.jsonl"], 1, "nan.jsonl, line 1: a score is not a positive number"),
    (["compare", "scores", "apart-scores"], 1, "have no trajectory in common"),
]


def one_line(result, status, message):
    assert result.returncode == status, result.stderr
    assert message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr


@pytest.mark.parametrize(("arguments", "status", "message"), CASES, ids=[" ".join(a) or "none" for a, _, _ in CASES])
def test_bad_input_gets_one_line(place, arguments, status, message):
    one_line(rsr(*arguments, cwd=place, env=OFFLINE), status, message)
    assert not (place / "new").exists()
    assert (place / "full" / "file").read_text() == "precious"


def test_standard_input_that_is_wrong(place):
    one_line(rsr(*SCORE, "-", cwd=place, input="{"), 1, "standard input, line 1: not valid JSON")
    one_line(rsr(*SCORE, "-", cwd=place, input=""), 1, "standard input: is empty")
    one_line(
        rsr("rank", "--scores", "-", cwd=place, input="[]"), 1, "standard input is not what `rsr score --json` prints"
    )


def test_a_terminal_is_no_data(place):
    leader, follower = os.openpty()
    result = rsr(*SCORE, "-", cwd=place, stdin=follower)
    os.close(leader)
    os.close(follower)
    one_line(result, 1, "standard input is a terminal")


def test_a_reader_that_goes_away_is_no_error(place):
    command = [sys.executable, "-m", "rsr", "select", "--scores", "scores", "data", "-o", "-", "--per-problem", "all"]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_full_disk_behind_standard_output(place):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-m", "rsr", "rank", "--scores", "scores", "--json"],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    one_line(result, 1, "standard output: No space left on device")


def limited(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_may_not_grow(place, monkeypatch):
    """A limit on the size of files fails as a full disk does: in the middle of a shard, or of a table."""
    monkeypatch.chdir(place)
    for stage in ("tokens", "scores"):
        shutil.rmtree(place / "limited" / "scores", ignore_errors=True)  # the shards are there by then
        result = rsr(*SCORE, "data", "--outputs", "limited", cwd=place, preexec_fn=limited(1500))
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith(f"error: limited/{stage}/")
        assert "File too large; what is finished is kept, the same command goes on" in result.stderr
        assert rsr_here([*SCORE, "data", "--outputs", "limited"]) == 0
        assert not list((place / "limited").rglob("*.partial"))


def test_a_training_set_that_may_not_grow(place, monkeypatch):
    result = rsr(*SELECT[:-1], "small", cwd=place, preexec_fn=limited(500))
    one_line(result, 1, "small: cannot be written")
    assert not (place / "small").exists()
    monkeypatch.chdir(place)
    assert rsr_here([*SELECT[:-1], "small"]) == 0


def test_a_folder_that_is_read_only(place, tmp_path):
    # The superuser may write everywhere but without that capability.
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    (tmp_path / "x.jsonl").write_text(GOOD)
    tmp_path.chmod(0o555)
    command = [*prefix, sys.executable, "-m", "rsr", "score", "--student", str(place / "model"), "x.jsonl"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    tmp_path.chmod(0o755)
    one_line(result, 1, "outputs: cannot be written: Permission denied")


@pytest.mark.parametrize(
    ("moment", "by", "said"),
    [
        ("loading", signal.SIGINT, "interrupted"),
        ("scoring", signal.SIGINT, "interrupted"),
        ("scoring", signal.SIGTERM, "terminated"),
    ],
)
def test_interrupted_it_goes_on(place, moment, by, said, monkeypatch):
    data, outputs = place / f"long-{moment}-{said}", place / f"out-{moment}-{said}"
    given = replies("a", 128 * 2, "Let us add one and two. " * 8)
    write(data / "a" / "gen1.jsonl", [chat(i, r, id=f"p{i}") for i, r in enumerate(given)])
    few = ["--token-budget", "64"]  # so that shards are scored one by one
    command = [sys.executable, "-m", "rsr", *SCORE, str(data), "--outputs", outputs.name, "--dtype", "float32", *few]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while moment == "loading" and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    while moment == "scoring" and not list(outputs.rglob("shard-*.parquet")):
        time.sleep(0.01)
    process.send_signal(by)
    out, err = process.communicate()
    assert process.returncode == 128 + by
    assert err.splitlines()[-1] == f"{said}: what is finished is kept, the same command goes on"
    assert "Traceback" not in err and out == ""
    if moment == "loading":
        return
    before = {p.name: p.stat().st_mtime_ns for p in outputs.rglob("shard-*.parquet")}
    assert before
    monkeypatch.chdir(place)
    assert rsr_here(command[3:]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in outputs.rglob("shard-*.parquet")}
    assert len(after) > len(before)
    assert before.items() <= after.items()


def test_there_are_at_least_forty_causes():
    messages = [message for _, _, message in CASES]
    assert len({(tuple(a), m) for a, _, m in CASES}) == len(CASES) >= 40
    assert len(set(messages)) >= 40
