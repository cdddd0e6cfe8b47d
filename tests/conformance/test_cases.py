"""Every input that once failed has its right outcome: what each case must do stands in its note."""

import json
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file, save_file

import rsr.cli
from experiments.app.entry import _open
from experiments.app.shared_configs import ROOT
from rsr.data import discovery
from rsr.data.messages import Message
from rsr.data.trajectories import Trajectory
from rsr.errors import InputError
from rsr.features.judge import Judge
from rsr.grading.endpoint import JudgeSettings
from rsr.grading.grader import Grader
from rsr.store.artefacts import of_folder
from rsr.student import pretrained
from rsr.student import student as students
from rsr.tokens.token_store import read_shard
from tests.models import save
from train.base import Base
from train.checkpoints import last_whole
from train.settings import Training
from train.sft import CHECKPOINTS, fine_tune

pytestmark = pytest.mark.full
OUTCOMES: dict[str, Callable[[Any], None]] = {}


def case(name):
    def register(outcome):
        OUTCOMES[name] = outcome
        return outcome

    return register


def cases(shared):
    return sorted(folder.name for folder in (shared / "cases").iterdir() if folder.is_dir())


class Place:
    """A folder to work in, with the case's student, and the commands as a user types them."""

    def __init__(self, inputs, folder, capfd):
        self.inputs, self.folder, self.capfd = inputs, folder, capfd
        self.student, self.outputs = folder / "student", folder / "outputs"

    def make(self, *arguments):
        """The case's student, or a plain one."""
        script = self.inputs / "student.py"
        if not script.is_file():
            return save(self.student)
        typed, sys.argv = sys.argv, [str(script), str(self.student), *arguments]
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            sys.argv = typed
        return self.student

    def rsr(self, verb, *arguments, data="chats.jsonl"):
        """Exit status, standard output and standard error."""
        self.capfd.readouterr()
        kept = [] if verb == "inspect" else ["--outputs", self.outputs]
        given = [verb, "--student", self.student, self.inputs / data, "--dtype", "float32", *kept, *arguments]
        status = rsr.cli.run([str(argument) for argument in given])
        return status, *self.capfd.readouterr()

    def experiment(self, name, *options):
        """An experiment's command; what it raises is what its entry point says in one line."""
        module = __import__(f"experiments.{name}", fromlist=["main"])
        paths = [f"paths.outputs={self.outputs}", f"paths.results={self.folder / 'results'}"]
        overrides = [_open(option) for option in options]
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose(name, overrides=[*paths, *overrides])
        module.main.__wrapped__(OmegaConf.to_object(config))

    def of_student(self):
        return [f"student={self.student}", f"teachers={self.inputs / 'chats.jsonl'}", "scoring.dtype=float32"]


def one_line(said):
    """The error, which is all there is of it."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said and len(errors) == 1, said
    return errors[0]


def test_every_case_is_tried(shared):
    assert sorted(OUTCOMES) == cases(shared)


@case("bos-lost-with-template")
def _(place):
    place.make()
    renderer = students.load_renderer(place.student, template="chatml")
    (source,) = discovery.read([str(place.inputs / "chats.jsonl")])
    ids = renderer.render(source.dataset.trajectories[0].messages).ids
    bos = renderer.tokenizer.bos_token_id
    assert ids[0] == bos and ids.count(bos) == 1


@case("brackets-in-a-teacher")
def _(place):
    place.make()
    data = f"teachers={place.inputs / 'data'}"
    place.experiment("score", f"student={place.student}", data, "scoring.dtype=float32", "metrics=text")
    (table,) = place.outputs.glob("scores/*/trajectories.parquet")
    assert set(pl.scan_parquet(table, glob=False).collect()["teacher"]) == {"gpt[v2]", "plain"}


@case("byte-order-mark")
def _(place):
    one, other = (discovery.read([str(place.inputs / f"chats.{end}")])[0].dataset for end in ("json", "jsonl"))
    assert one.digest() == other.digest() and len(one.trajectories) == 3


@case("checkpoint-cut-off")
def _(place):
    base = Base("tiny", str(place.make()))
    (source,) = discovery.read([str(place.inputs / "chats.jsonl")])
    training = Training(epochs=2, batch_size=2, micro_batch=1, max_length=600, checkpoints=4)

    def stop(step, steps):
        if step == steps - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(base, source.dataset, training, place.outputs, progress=stop)
    (folder,) = place.outputs.glob(f"trained/*/{CHECKPOINTS}")
    newest = last_whole(folder)
    assert newest is not None
    state = newest / "trainer_state.json"
    state.write_text(state.read_text()[:300])
    assert last_whole(folder) != newest
    ended = fine_tune(base, source.dataset, training, place.outputs).path
    unbroken = fine_tune(base, source.dataset, training, place.folder / "unbroken").path
    files = [(path / "model" / "model.safetensors").read_bytes() for path in (ended, unbroken)]
    assert files[0] == files[1]


@case("composite-configuration")
def _(place):
    place.make()
    assert place.rsr("score")[0] == 0
    assert pretrained.positions_of(pretrained.load_config(place.student)) == 64
    (shard,) = place.outputs.glob("tokens/*/shard-*.parquet")
    cut = pl.read_parquet(shard)
    assert cut["truncated"].to_list() == (cut["chat_tokens"] > 64).to_list() and cut["truncated"].any()


@case("grader-letter-with-option")
@case("grader-tiny-values")
def _(place):
    pairs = [json.loads(line) for line in (place.inputs / "pairs.jsonl").read_text().splitlines()]
    with Grader() as grader:
        grades = grader.grade([(pair["gold"], rf"\boxed{{{pair['answer']}}}") for pair in pairs])
    assert [
        ("correct" if grade.correct else "wrong", pair["answer"]) for grade, pair in zip(grades, pairs, strict=True)
    ] == [(pair["verdict"], pair["answer"]) for pair in pairs]


@case("header-before-a-space")
def _(place):
    for way in ("prompt", "history"):
        place.make(way)
        status, _, said = place.rsr("score")
        assert status == 0, said
        shutil.rmtree(place.student)


@case("hub-shards")
def _(place):
    (source,) = discovery.read([str(place.inputs / "hub")])
    shards = sorted(place.inputs.glob("hub/data/*.parquet"))
    assert len(source.dataset.trajectories) == sum(len(pl.read_parquet(shard)) for shard in shards)
    (place.folder / "half").mkdir()
    shutil.copy(shards[1], place.folder / "half")
    with pytest.raises(InputError, match="00000-of-00002"):
        discovery.read([str(place.folder / "half")])


@case("index-outside-the-digest")
def _(place):
    place.make()
    file = place.student / "model.safetensors"
    save_file(weights := load_file(file), place.folder / "w.safetensors", metadata={"format": "pt"})
    file.unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "../w.safetensors")}
    (place.student / "model.safetensors.index.json").write_text(json.dumps(index))
    status, _, said = place.rsr("score")
    assert status == 1 and "../w.safetensors" in one_line(said)
    assert not any(place.outputs.glob("tokens/*"))


@case("interrupted-entry-point")
def _(place):
    place.make()
    many = [f"paths.outputs={place.outputs}", "student.training.batch_size=2", "student.training.epochs=200"]
    command = [sys.executable, str(ROOT / "experiments" / "train.py"), *place.of_student(), *many]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=place.folder)
    while not any(place.outputs.glob("trained/*.partial/*")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and "Traceback" not in said
    assert said.endswith("interrupted: what is finished is kept, the same command goes on\n")


@case("judge-template-runs-code")
def _(place):
    settings = JudgeSettings("http://127.0.0.1:9/v1", "m", template=str(place.inputs / "prompt.jinja"), attempts=1)
    asked = Trajectory("a", "a", (Message("user", "u"), Message("assistant", "v")))
    with pytest.raises(InputError, match=r"prompt\.jinja"):
        Judge(settings)(asked)


@case("last-turn-is-the-users")
def _(place):
    place.make()
    status, _, said = place.rsr("select", "-o", place.folder / "new", "--correct", "only")
    assert status == 0, said
    assert len((place.folder / "new" / "train.jsonl").read_text().splitlines()) == 3


@case("many-datasets-memory")
def _(place):
    """What a dataset adds is below 1.5 MB, where it was 7."""
    place.make()
    peaks = []
    for count in (10, 110):
        data = place.folder / f"of-{count}"
        data.mkdir()
        for i in range(count):
            chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"so {i}."}]
            (data / f"t{i:05d}.jsonl").write_text(json.dumps({"id": "p", "messages": chat}) + "\n")
        code = "import resource, sys, rsr.cli; status = rsr.cli.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
        given = ["score", "--student", place.student, data, "--dtype", "float32", "--outputs", place.outputs]
        run = subprocess.run([sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, check=True)
        peaks.append(int(run.stderr.splitlines()[-1]) / 1024)
    assert (peaks[1] - peaks[0]) / 100 < 1.5


@case("metrics-beside-tokens")
def _(place):
    place.make()
    data = place.folder / "data"
    data.mkdir()
    for name in ("chats.jsonl", "b.jsonl"):
        shutil.copy(place.inputs / name, data)
    given = [f"student={place.student}", f"teachers={data}", "scoring.dtype=float32"]
    place.experiment("score", *given, "metrics=[rsr,rule_based_quality]")
    assert "Rule" in place.capfd.readouterr().out


@case("missing-head")
def _(place):
    place.make()
    status, _, said = place.rsr("score")
    assert status == 1 and "lm_head.weight" in one_line(said)
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        place.experiment("train", *place.of_student())


@case("opened-thinking-template")
@case("sdpa-unsupported")
def _(place):
    place.make()
    status, _, said = place.rsr("score")
    assert status == 0, said
    (shard,) = place.outputs.glob("tokens/*/shard-*.parquet")
    assert pl.read_parquet(shard)["reason"].null_count() == len(pl.read_parquet(shard))


@case("pandas-objects")
def _(place):
    pandas = pytest.importorskip("pandas")
    chats = [
        [{"role": "user", "content": f"Add {i} and 1."}, {"role": "assistant", "content": "seven"}] for i in range(3)
    ]
    rows: list[dict[str, Any]] = [{"id": i, "messages": chat} for i, chat in enumerate(chats)]
    arrays = [{"id": str(row["id"]), "messages": np.array(row["messages"])} for row in rows]
    numbers = [{**row, "id": np.int64(row["id"])} for row in rows]
    for data in (pandas.DataFrame(rows), pl.DataFrame(rows), arrays, numbers):
        (source,) = discovery.read(data)
        assert [[m.content for m in t.messages] for t in source.dataset.trajectories] == [
            [message["content"] for message in chat] for chat in chats
        ]


@case("read-only-results")
def _(place):
    for name in ("correlation", "trajectory_selection"):
        with pytest.raises(InputError, match=r"/dev/null.*cannot be written"):
            place.experiment(name, "student=qwen3b", "bootstrap.resamples=100", "paths.results=/dev/null")


@case("reasoning-field")
def _(place):
    one, other = (discovery.read([str(place.inputs / name)])[0].dataset for name in ("chats.jsonl", "renamed.jsonl"))
    assert one.digest() == other.digest()
    place.make()
    assert place.rsr("score")[0] == 0
    (shard,) = place.outputs.glob("tokens/*/shard-*.parquet")
    assert all(n > 20 for n in pl.read_parquet(shard)["rank"].list.len())  # eight without the thinking


@case("score-table-damaged")
def _(place):
    place.make()
    chats = (place.inputs / "chats.jsonl").read_text()
    other = place.folder / "b.jsonl"
    other.write_text(chats)
    assert place.rsr("rank", other)[0] == 0
    whole = place.folder / "whole"
    shutil.copytree(place.outputs, whole)

    def cut(file):
        file.write_bytes(file.read_bytes()[:900])

    for pattern, damage in (
        ("scores/*/trajectories.parquet", cut),
        ("scores/*/trajectories.parquet", Path.unlink),
        ("tokens/*/manifest.json", lambda file: file.write_text("[]")),
    ):
        for file in place.outputs.glob(pattern):
            damage(file)
        status, _, said = place.rsr("rank", other)
        assert status == 0 or (status == 1 and str(place.outputs) in one_line(said)), said
        shutil.rmtree(place.outputs)
        shutil.copytree(whole, place.outputs)


@case("shard-bit-flip")
def _(place):
    place.make()
    place.rsr("score")
    (path,) = place.outputs.glob("tokens/*/shard-00000.parquet")
    artefact = of_folder(path.parent)
    whole, right, rng = path.read_bytes(), read_shard(artefact, 0), random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            shard = read_shard(artefact, 0)
        except InputError:
            continue
        assert shard.ids == right.ids
        assert np.array_equal(shard.tokens.rank, right.tokens.rank)
        assert np.array_equal(shard.tokens.surprisal, right.tokens.surprisal)


@case("sharegpt-system-column")
@case("sharegpt-user-assistant")
def _(place):
    place.make()
    status, _, said = place.rsr("select", "-o", place.folder / "new")
    assert status == 0, said
    (info,) = json.loads((place.folder / "new" / "dataset_info.json").read_text()).values()
    records = [json.loads(line) for line in (place.folder / "new" / "train.jsonl").read_text().splitlines()]
    tags = {turn["from"] for record in records for turn in record["conversations"]}
    assert tags == {info["tags"]["user_tag"], info["tags"]["assistant_tag"]}
    assert [record.get("system") for record in records] == [
        record.get(info["columns"].get("system")) for record in records
    ]


@case("surrogate-in-another-field")
def _(place):
    place.make()
    status, _, said = place.rsr("select", "-o", place.folder / "new")
    assert status == 0 or re.search(r"chats\.jsonl.*line 1.*source", one_line(said)), said


@case("template-that-fails")
def _(place):
    place.make()
    for name in ("zero", "range", "recursion", "encoding"):
        status, _, said = place.rsr("score", "--template", place.inputs / f"{name}.jinja")
        assert status == 1 and "template" in one_line(said)


@case("template-variable-boolean")
def _(place):
    place.make()
    status, out, said = place.rsr("inspect", "--template-variable", "enable_thinking=false")
    assert status == 0, said
    assert "Mode: off" in out and "Mode: on" not in out


@case("terminal-escapes")
def _(place):
    place.make()
    for verb, data in (("inspect", "chats.jsonl"), ("score", "chats.jsonl"), ("score", "bad.jsonl")):
        _, out, said = place.rsr(verb, data=data)
        assert "\x1b" not in out + said


@case("thinking-template-evaluation")
def _(place):
    place.make()
    bench = [f"evaluation.data={place.inputs / 'bench'}", "evaluation.benchmarks=[aime24]"]
    few = ["evaluation.samples=1", "evaluation.max_new_tokens=4"]
    place.experiment("evaluate", f"student={place.student}", "teachers=none", "scoring.dtype=float32", *bench, *few)
    assert "Acc@1 over 2 problems" in place.capfd.readouterr().out


@case("tokenizer-beyond-embeddings")
def _(place):
    place.make()
    status, _, said = place.rsr("score")
    assert status == 1 and "embeddings" in one_line(said)


@case("training-numbers")
def _(place):
    place.make()
    numbers = ["betas=[]", "betas=[2,3]", "lora.rank=-1", "seed=-1", "seed=99999999999", "learning_rate=-1"]
    for number in [*numbers, "learning_rate=nan", "weight_decay=-1", "max_grad_norm=-1"]:
        with pytest.raises((InputError, OmegaConfBaseException)) as refusal:
            place.experiment("train", *place.of_student(), f"student.training.{number}")
        assert number.split("=")[0].split(".")[-1] in str(refusal.value)
    assert not any(place.outputs.glob("trained/*"))


@case("trimmed-last-newline")
def _(place):
    place.make()
    status, _, said = place.rsr("score")
    assert status == 0 or (status == 1 and "white space" in one_line(said)), said


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_case_has_its_right_outcome(name, shared, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    OUTCOMES[name](Place(shared / "cases" / name, tmp_path, capfd))
