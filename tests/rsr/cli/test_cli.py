"""What each command does, as a user runs it, and the same verbs from Python."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

import rsr.cli
from experiments.app.shared_configs import ROOT
from rsr.data import records as files
from rsr.data import trajectories
from rsr.errors import InputError
from rsr.metrics import METRICS, compare_scores, score_sets
from rsr.student import threads
from rsr.student.template import load_template
from rsr.tokens.settings import Settings
from tests.clients import alpaca, chat, replies, sharegpt, teachers, write
from tests.clients import rsr as run
from tests.models import save

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(model):
    from rsr.student.student import load

    return load(model, dtype="float32", device="cpu")


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, rsr.cli; rsr.cli.run(['--help']); "
        "heavy = {'torch', 'transformers', 'polars', 'numpy', 'rich'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(verb in result.stdout for verb in ("score", "rank", "select", "report", "inspect", "compare"))
    assert run("--version", cwd=tmp_path).stdout == f"rsr, version {rsr.__version__}\n"


def test_the_experiment_and_the_command_find_each_others_artefacts(tmp_path, model):
    data = teachers(tmp_path / "data", make=without_answer)  # which the command alone counts right ones of
    script = [sys.executable, str(ROOT / "experiments" / "score.py"), f"student={model}", f"teachers={data}"]
    experiment = subprocess.run([*script, "paths.outputs=out"], cwd=tmp_path, capture_output=True, text=True)
    assert experiment.returncode == 0, experiment.stderr
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    command = run("score", "--student", model, data, "--outputs", "out", cwd=tmp_path)
    assert command.stdout == experiment.stdout
    assert "scoring" not in command.stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == made


def without_answer(i, reply, *, answer, **fields):
    return chat(i, reply, **fields)


def test_scores_stand_beside_right_answers(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    write(tmp_path / "data" / "silent.jsonl", [chat(i, f"It is {i}2.", id=f"p{i}", answer="42") for i in range(6)])
    shown = within(capfd, "score", data, "--student", model)
    rows = {line.split()[0]: line.split() for line in shown.splitlines()}
    assert {name: rows[name][-4:] for name in ("terse/gen1", "wordy/gen1", "silent")} == {
        "terse/gen1": ["3", "of", "6", "0"],
        "wordy/gen1": ["6", "of", "6", "0"],
        "silent": ["0", "of", "0", "6"],
    }
    assert "unknown: no right answer is given, or none is found" in shown
    told = json.loads(within(capfd, "score", data, "--student", model, "--answer", "last number", "--json"))
    assert told["verdicts"]["silent"] == {"right": 1, "wrong": 5, "unknown": 0}
    shutil.rmtree(data)
    shown = within(capfd, "score", teachers(data, make=without_answer), "--student", model)
    assert " right " not in shown and "unknown" not in shown


def test_a_file_that_may_be_of_several_teachers_is_said_to_be(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rows = [
        chat(i, f"{i}{i}", model=("big", "small")[i % 2], source=f"page {i}", level=i % 2, about="a " * 99)
        for i in range(6)
    ]
    write(tmp_path / "all.jsonl", rows)
    command = ["score", "all.jsonl", "--student", str(model), "--dtype", "float32"]
    assert rsr.cli.run(command) == 0
    said = "all.jsonl is taken as one teacher's; if a field of its records names several, --field teacher=NAME says so: they have "
    assert f"note: {said}model (2 values)\n" in capfd.readouterr().err
    assert rsr.cli.run([*command, "--field", "teacher=model"]) == 0
    assert "is taken as" not in capfd.readouterr().err


def test_a_field_that_no_record_has_is_refused_before_anything_is_scored(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "a.jsonl", [chat(i, f"{i}{i}", source="x") for i in range(3)])
    assert rsr.cli.run(["rank", "data", "--student", str(model), "--by", "sorce"]) == 1
    assert "its record has no 'sorce' to group by; it has source, messages" in capfd.readouterr().err
    assert not list((tmp_path / "outputs").glob("tokens/*"))


def within(capfd, *arguments):
    """Run a command in this process, which has torch already; what it prints."""
    assert rsr.cli.run([str(a) for a in arguments]) == 0
    return capfd.readouterr().out


def test_devices_share_the_work_and_change_no_byte(tmp_path, model):
    pytest.importorskip("ray", reason='Ray is not installed: pip install "rsr[ray]"')
    if threads.cores() < 2:
        pytest.skip("one core is not two devices")
    data = teachers(tmp_path / "data")
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads as the two have them
    several, one = (
        run("score", "--student", model, data, "--device", "cpu", "--outputs", of, *more, cwd=tmp_path, env=alone)
        for of, more in (("several", ["--devices", 2]), ("one", []))
    )
    assert several.returncode == 0, several.stderr
    assert several.stdout == one.stdout.replace("to one", "to several") and "found:" not in several.stderr
    stores = [{p.name: p.read_bytes() for p in (tmp_path / of).glob("tokens/*/*.parquet")} for of in ("several", "one")]
    assert stores[0] == stores[1] != {}
    with pytest.raises(InputError, match="devices=999: this machine has "):
        rsr.score(model, data, outputs=tmp_path / "new", devices=999)


def test_several_devices_want_ray_and_a_student_that_each_can_load(tmp_path, model, loaded, monkeypatch):
    data = teachers(tmp_path / "data")
    with pytest.raises(InputError, match="devices=2: each loads the student itself"):
        rsr.score(loaded, data, outputs=tmp_path / "out", devices=2)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "rsr.tokens.ray_scoring", raising=False)
    with pytest.raises(InputError, match=r'devices=2 needs Ray: pip install "rsr\[ray\]"'):
        rsr.score(model, data, outputs=tmp_path / "out", devices=2)
    assert rsr.cli.run(["score", "--student", str(model), str(data), "--devices", "2", "--dry-run"]) == 2


def test_a_dry_run_counts_and_writes_nothing(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    found = json.loads(within(capfd, "score", "--student", model, data, "--dry-run", "--json", "--max-length", 90))
    assert not (tmp_path / "outputs").exists()
    shown = within(capfd, "score", "--student", model, data, "--dry-run")
    assert "12 trajectories" in shown
    assert "of it: fits on cpu, which has " in shown
    scores = rsr.score(model, data, outputs=tmp_path / "out", settings=rsr.Settings(max_length=90))
    one = scores.trajectories.filter(metric="rsr", preset="")
    assert found["trajectories"] == len(one) == 12
    assert found["response_tokens"] == one["tokens"].sum()
    assert found["truncated"] == one["truncated"].sum() > 0
    assert found["longest"] == 90
    assert all(found[key] > 0 for key in ("seconds", "tokens_per_second", "memory", "disk", "free", "weights"))


def test_scores_go_through_a_pipe(tmp_path, model):
    teachers(tmp_path / "data")
    shell = (
        f"{sys.executable} -m rsr score --student {model} data --json | {sys.executable} -m rsr rank --scores - --json"
        f" && cat data/terse/gen1.json | {sys.executable} -c 'import json, sys\n"
        "for record in json.load(sys.stdin): print(json.dumps(record))' | "
        f"{sys.executable} -m rsr select --student {model} - -o - 2>/dev/null"
    )
    result = subprocess.run(shell, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ranking, end = json.JSONDecoder().raw_decode(result.stdout)
    assert sum(place["best"] for place in ranking["places"]) == pytest.approx(1)
    selected = [json.loads(line) for line in result.stdout[end:].strip().splitlines()]
    given = json.loads((tmp_path / "data" / "terse" / "gen1.json").read_text())
    assert sorted(selected, key=str) == sorted(given, key=str)


@pytest.mark.parametrize("colour", [{"NO_COLOR": "1"}, {}])
def test_colour_is_for_terminals_that_want_it(tmp_path, model, colour):
    write(tmp_path / "a.jsonl", [chat(0, "1 + 2 = 3. \\boxed{42}")])
    leader, follower = os.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | colour | {"TERM": "xterm-256color"}
    command = [sys.executable, "-m", "rsr", "inspect", "--student", str(model), "a.jsonl"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=follower, stderr=subprocess.DEVNULL, env=environment)
    os.close(follower)
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    assert process.wait() == 0
    assert (b"\x1b[30;48" in shown or b"\x1b[38;5" in shown or b"48;5" in shown) == (not colour)


def _read(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the other end is closed
        return b""


def test_data_cannot_steer_a_terminal(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a\x1b[2J.jsonl", [chat(0, "\x1b]0;title\x07 \\boxed{42}", id="\x1b[31m")])
    write(tmp_path / "bad.jsonl", [{"\x1b[31mkey": 1}])
    for command, shown in (("inspect", "\\x1b]0;title\\x07"), ("score", "a\\x1b[2J")):
        rsr.cli.run([command, "a\x1b[2J.jsonl", "--student", str(model), "--dtype", "float32"])
        said = "".join(capfd.readouterr())
        assert "\x1b" not in said and shown in said
    rsr.cli.run(["score", "bad.jsonl", "--student", str(model)])
    assert "it has \\x1b[31mkey" in capfd.readouterr().err


def test_nothing_scored_is_no_success(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    template = load_template("chatml").replace("message['content']", "message['content'] | upper")
    (tmp_path / "shouting.jinja").write_text(template)
    write(tmp_path / "a.jsonl", [chat(0, "It is 2.\n")])
    arguments = ["a.jsonl", "--student", str(model), "--template", "shouting.jinja", "--on-error", "skip"]
    assert rsr.cli.run(["score", *arguments]) == 1
    assert "no trajectory has a score: a, trajectory " in (err := capfd.readouterr().err)
    assert "take another template" in err


def test_a_page_of_a_trajectory(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", [chat(0, "x"), chat(1, "1 < 2 <script>alert(1)</script> \\boxed{42}", id="it")])
    shown = within(capfd, "inspect", "--student", model, "a.jsonl", "--trajectory", "it", "--html", "it.html")
    assert shown == "Written to it.html\n"
    page = (tmp_path / "it.html").read_text()
    assert "<script>alert" not in page
    assert "<mark>1 &lt; 2 &lt;script&gt;" in page
    assert page.count('class="t"') == len(rsr.inspect(model, tmp_path / "a.jsonl", "it").tokens)


def test_scores_of_each_turn(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    asked = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is 2."}]
    write(
        tmp_path / "a.jsonl",
        [{"messages": [*asked, {"role": "user", "content": "Yes."}, {"role": "assistant", "content": "Fine."}]}],
    )
    turns = json.loads(within(capfd, "inspect", "--student", model, "a.jsonl", "--json", "--rendering", "turn"))[
        "turns"
    ]
    assert [turn["message"] for turn in turns] == [1, 3]
    both = rsr.inspect(model, tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl", [{"messages": asked}])
    first = rsr.inspect(model, tmp_path / "b.jsonl")
    assert turns[0]["rsr"] == pytest.approx(first.rsr) and turns[0]["tokens"] == len(first.tokens)
    assert turns[0]["tokens"] + turns[1]["tokens"] == len(both.tokens)


def test_any_metric_of_a_student_and_data_ranks_and_selects(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    common = ["--student", model, data, "--dtype", "float32"]
    shown = within(capfd, "score", *common, "--metrics", "rsr,rule_based_quality,steps")
    assert "Rule-based quality ↑" in shown and "RSR [95 %]" in shown
    rsr.cli.run(["rank", *map(str, common), "--metric", "rule_based_quality"])
    out, err = capfd.readouterr()
    assert "Rule-based quality, higher is better" in out
    assert f"found: {model.name} in float32 with its own template, nothing is scored anew" in err
    quality = ["--metric", "rule_based_quality", "--correct", "ignore"]
    selected = json.loads(within(capfd, "select", *common, *quality, "-o", "new", "--json"))
    assert (selected["selected"], selected["covered"], selected["problems"]) == (6, 6, 6)
    chosen = pl.read_csv("new/selected.csv")
    others = pl.read_csv("new/left_out.csv")
    best = chosen.join(others, on="problem", suffix="_other")
    assert (best["value"] >= best["value_other"]).all() and best["tokens"].null_count() == 0
    assert rsr.cli.run(["score", *map(str, common), "--metrics", "influence_score"]) == 1
    assert "influence_score needs more than a student and data" in capfd.readouterr().err


def test_a_sample_of_a_scored_sample_scores_nothing_and_what_is_scored_first_is_said(
    tmp_path, model, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    common = ["--student", str(model), str(teachers(tmp_path / "data", 10)), "--dtype", "float32"]
    assert rsr.cli.run(["rank", *common, "--sample", "8"]) == 0
    out, err = capfd.readouterr()
    assert f"2 of 2 datasets are not scored as a whole under {model.name}: that comes first" in err
    assert "whether answers are right is known for 16 of 16 trajectories" in out
    assert dict(re.findall(r"(\w+)/gen1 .* (\d of \d)\s+0\s*\n", out)) == {
        "terse": "4 of 8",
        "wordy": "8 of 8",
    }
    assert rsr.cli.run(["rank", *common, "--sample", "4"]) == 0
    assert "nothing is scored anew" in capfd.readouterr().err
    assert rsr.cli.run(["score", *common]) == 0
    assert "of the text was scored before, the rest is scored anew" in capfd.readouterr().err


def test_what_was_left_out_is_said_by_every_command_that_scores(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    (data / "..hidden.jsonl").write_text((data / "terse" / "gen1.json").read_text())
    common = ["--student", str(model), str(data), "--dtype", "float32", "--max-length", "60"]
    said = []
    for command in (["score"], ["score", "--json"], ["rank"], ["select", "-o", "new"], ["report"]):
        assert rsr.cli.run([command[0], *common, *command[1:]]) == 0
        printed = "".join(capfd.readouterr())
        said.append(("not read: ..hidden.jsonl" in printed, "wordy/gen1: 6 truncated" in printed))
    assert said == [(True, True)] * 5


def test_scores_in_another_dtype_are_named(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.jsonl", [chat(0, "x")])
    told = []
    for dtype in ("float32", "bfloat16", "bfloat16"):
        assert rsr.cli.run(["score", str(path), "--student", str(model), "--dtype", dtype]) == 0
        told.append("note: float32 scores of this exist: --dtype float32 takes them" in capfd.readouterr().err)
    assert told == [False, True, False]


# --- selecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "suffix"), [(chat, ".json"), (sharegpt, ".jsonl"), (alpaca, ".json"), (chat, ".parquet")]
)
def test_a_training_set_has_the_form_of_its_sources(tmp_path, loaded, make, suffix):
    data = teachers(tmp_path / "data", make=make, suffix=".jsonl" if suffix == ".jsonl" else ".json")
    if suffix == ".parquet":
        for path in data.rglob("*.json"):
            pl.DataFrame(json.loads(path.read_text())).write_parquet(path.with_suffix(".parquet"))
            path.unlink()
    scores = rsr.score(loaded, data, outputs=tmp_path / "out")
    chosen = rsr.select(scores, data)
    file = chosen.write(tmp_path / "new")
    assert file.name == f"train{suffix}"
    written = [record for _, record in files.records(file)]
    sources = [record for p in data.rglob(f"*{suffix}") for _, record in files.records(p)]
    assert len(written) == 6
    assert all(record in sources for record in written)
    info = json.loads((tmp_path / "new" / "dataset_info.json").read_text())["rsr_selection"]
    assert info["file_name"] == file.name
    assert set(info["columns"].values()) <= set(written[0])
    again = trajectories.read(file, "again")  # what was written can be scored
    assert len(again.trajectories) == 6
    assert chosen.write(tmp_path / "new") == file  # and is found


def test_progress_is_told_to_whoever_asks_and_nothing_is_printed(tmp_path, loaded, capfd):
    data, told = teachers(tmp_path / "data"), []
    rsr.score(loaded, data, outputs=tmp_path / "out", progress=lambda *done: told.append(done))
    assert capfd.readouterr() == ("", "")
    datasets = {dataset.name: dataset for dataset, _, _ in told}
    assert len(datasets) > 1 and all(tokens for _, _, tokens in told)
    assert sum(n for _, n, _ in told) == sum(t.characters for d in datasets.values() for t in d.trajectories)


def test_agents_of_several_teachers_in_one_file_are_ranked_within_a_field_and_trained_on(
    tmp_path, model, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    call = {"function": {"name": "add", "arguments": '{"a": 40, "b": 2}'}}
    rows = [
        {
            "model": teacher,
            "origin": "book" if i < 4 else "forum",
            "chat": [
                *chat(i, "")["messages"][:1],
                {"role": "assistant", "content": "", "reasoning": reply, "tool_calls": [call]},
                {"role": "tool", "content": "42"},
                {"role": "assistant", "content": f"It is {i}. {reply}"},
            ],
            "tools": [{"name": "add", "parameters": {"type": "object"}}],
        }
        for teacher in ("one", "two")
        for i, reply in enumerate(replies(teacher, 7))
    ]
    named = ("--field", "teacher=model", "--field", "messages=chat")
    asked = ("--student", model, write("all.jsonl", rows), *named, "--template", "chatml")
    found = json.loads(within(capfd, "rank", *asked, "--by", "origin", "--json"))
    assert [(group["name"], group["trajectories"], group["ranking"]["problems"]) for group in found["groups"]] == [
        ("book", 8, 4),
        ("forum", 6, 3),
    ]
    assert found["whole"]["problems"] == 7 and {p["dataset"] for p in found["whole"]["places"]} == {"one", "two"}
    assert "within each origin" in within(capfd, "rank", *asked, "--by", "origin")
    within(capfd, "select", *asked, "-o", "new", "--format", "messages")
    written = [json.loads(line) for line in (tmp_path / "new" / "train.jsonl").read_text().splitlines()]
    assert len(written) == 7 and all(record["tools"][0]["function"]["name"] == "add" for record in written)
    assert written[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"a": 40, "b": 2}
    assert written[0]["messages"][1]["content"].startswith("<think>\n")
    info = json.loads((tmp_path / "new" / "dataset_info.json").read_text())["rsr_selection"]
    assert info["columns"] == {"messages": "messages", "tools": "tools"} and info["formatting"] == "openai"


def test_trl_trains_on_it_as_it_is(tmp_path, model):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    data = teachers(tmp_path / "data", make=sharegpt)
    scores = rsr.score(model, data, outputs=tmp_path / "out")
    file = rsr.select(scores, data).write(tmp_path / "new", form="messages")
    train = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    config = trl.SFTConfig(str(tmp_path / "trained"), max_steps=1, use_cpu=True, bf16=False, report_to="none")
    result = trl.SFTTrainer(str(model), args=config, train_dataset=train).train()
    assert result.global_step == 1 and np.isfinite(result.training_loss)


def test_teachers_are_included_and_excluded_and_one_file_is_written(tmp_path, loaded, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    scores = rsr.score(loaded, data, outputs=tmp_path / "out")
    for chosen in (rsr.select(scores, data, teachers=["wordy"]), rsr.select(scores, data, without=["terse"])):
        assert {*chosen.choice.chosen["teacher"]} == {"wordy"} and chosen.choice.left_out.is_empty()
    with pytest.raises(rsr.InputError, match="no teacher is called 'worldy': there are terse, wordy"):
        rsr.select(scores, data, teachers=["worldy"])
    arguments = ["select", "--student", model, data, "--teachers", "wordy", "-o", "new.jsonl", "--format", "alpaca"]
    for _ in range(2):  # the same file is found
        assert "Written to new.jsonl" in within(capfd, *arguments)
    assert len([*files.records(tmp_path / "new.jsonl")]) == 6
    assert rsr.cli.run([*map(str, arguments), "--top", "1"]) == 1
    assert "new.jsonl: holds something else already" in capfd.readouterr().err


def test_a_selection_may_be_of_the_size_of_another(tmp_path, loaded, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    data = teachers(tmp_path / "data")
    scores = rsr.score(loaded, data, outputs=tmp_path / "outputs")
    small = rsr.select(scores, data, top=4, correct="ignore")
    small.write("small")
    longest: dict[str, Any] = {"metric": "avg_token_length", "correct": "ignore"}
    whole = rsr.select(scores, data, **longest).choice.chosen
    for by in ("rows", "tokens"):
        chosen = rsr.select(scores, data, **longest, match=(by, "small"))
        assert chosen.choice.chosen.join(whole, on="trajectory", how="anti").is_empty()
        assert [record["id"] for record in chosen.records] == chosen.choice.chosen["trajectory"].to_list()
        assert len(chosen.choice.left_out) == 12 - len(chosen.records) and chosen.reasons[f"beyond the {by} of small"]
        less = (small.tokens or 0) - (chosen.tokens or 0)
        assert len(chosen.records) == 4 if by == "rows" else 0 <= less < whole["tokens"].to_numpy().max()
    told = ["select", "--student", model, data, "--correct", "ignore", "-o", "new", "--match"]
    assert "4 trajectories selected" in within(capfd, *told, "rows=small")
    assert json.loads((tmp_path / "new" / "manifest.json").read_text())["match"] == {"by": "rows", "set": "small"}
    assert rsr.cli.run([*map(str, told), "rows=small", "--top", "2"]) == 1
    assert "small: has more rows than this selection: select this one first" in capfd.readouterr().err
    assert rsr.cli.run([*map(str, told), "rows=data"]) == 1 and "holds no selected.csv" in capfd.readouterr().err
    assert rsr.cli.run([*map(str, told), "columns=small"]) == 2


def test_names_are_text_not_markup(tmp_path, model, capfd):
    path = write(tmp_path / "[x]*" / "a.jsonl", [chat(i, r) for i, r in enumerate(replies("a", 3))])
    common = ["--student", str(model), f"[/x]={path}", "--outputs", str(path.parent / "out")]
    for command in (["score"], ["rank"], ["select", "-o", str(tmp_path / "new")]):
        assert "[/x]" in within(capfd, *command, *common)


def test_what_is_selected_is_the_best_correct_answer(tmp_path, loaded):
    data = teachers(tmp_path / "data")
    scores = rsr.score(loaded, data, outputs=tmp_path / "out")
    chosen = rsr.select(scores, data).choice.chosen
    assert chosen["correct"].all()
    values = scores.trajectories.filter(metric="rsr", preset="")
    for row in chosen.iter_rows(named=True):
        odd = int(row["problem"].removeprefix("p")) % 2 == 1
        candidates = values.filter(problem=row["problem"])
        right = candidates if odd else candidates.filter(teacher="wordy")  # the terse one is wrong on the even ones
        assert row["value"] == right["value"].min()
    longest = rsr.select(scores, data, metric="avg_token_length", correct="ignore").choice.chosen
    tokens = values.group_by("problem").agg(pl.col("tokens").max()).sort("problem")
    assert longest["tokens"].to_list() == tokens["tokens"].to_list()


def test_cut_answers_are_said_and_a_longest_length_leaves_them_out(tmp_path, loaded):
    data = teachers(tmp_path / "data")
    scores = rsr.score(loaded, data, outputs=tmp_path / "out", settings=Settings(max_length=100))
    told = "selected are cut at the maximum length: neither scores nor training see their ends, answers included"
    chosen = rsr.select(scores, data)
    cut = chosen.choice.chosen["truncated"].sum()
    assert cut and [w for w in chosen.warnings if w.startswith(f"{cut} of 6 {told}")]
    whole = rsr.select(scores, data, max_response_tokens=1000)
    assert not whole.choice.chosen["truncated"].any() and whole.reasons["cut at the maximum length"]
    assert not [w for w in whole.warnings if told in w]


def test_wrong_answers_are_taken_only_where_there_is_no_other_and_said(tmp_path, loaded):
    given = replies("a", 4, right=lambda i: i == 0)
    write(tmp_path / "a.json", [chat(i, r, answer="42") for i, r in enumerate(given)])
    scores = rsr.score(loaded, tmp_path / "a.json", outputs=tmp_path / "out")
    chosen = rsr.select(scores, tmp_path / "a.json")
    assert chosen.choice.chosen["correct"].sum() == 1
    assert "3 of 4 selected are wrong: correct=only (--correct only) leaves them out" in chosen.warnings
    assert "3 of 4 problems with an answer have no correct candidate" in chosen.warnings
    assert len(rsr.select(scores, tmp_path / "a.json", correct="only").records) == 1


def test_malformed_records_and_records_as_text_are_said(tmp_path, loaded):
    records = [chat(i, r) for i, r in enumerate(replies("a", 3))]
    as_text = [{"messages": str(record["messages"])} for record in records]  # as in the paper's data
    path = write(tmp_path / "a.jsonl", [*as_text, {"messages": []}])
    scores = rsr.score(loaded, path, outputs=tmp_path / "out", on_error="skip")
    chosen = rsr.select(scores, path, on_error="skip")
    assert "1 malformed records were left out" in chosen.warnings
    assert (
        "the records keep messages as text, which trainers do not read: write messages (--format messages)"
        in chosen.warnings
    )
    assert list(chosen.records) == [as_text[t.row] for t in chosen.trajectories]
    written = [record for _, record in files.records(chosen.write(tmp_path / "new", form="messages"))]
    assert [record["messages"] for record in written] == [records[t.row]["messages"] for t in chosen.trajectories]


def test_an_interrupted_export_leaves_nothing(tmp_path, loaded, monkeypatch):
    data = teachers(tmp_path / "data")
    chosen = rsr.select(rsr.score(loaded, data, outputs=tmp_path / "out"), data)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(rsr.InputError, match="new: cannot be written: No space left"):
        chosen.write(tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


def test_many_answers_to_a_prompt_in_one_file(tmp_path, loaded):
    path = write(tmp_path / "a.jsonl", [chat(i % 2, r) for i, r in enumerate(replies("a", 8))])
    scores = rsr.score(loaded, path, outputs=tmp_path / "out")
    apart, together = rsr.select(scores, path), rsr.select(scores, path, by_prompt=True)
    assert len(apart.records) == 8
    assert "by_prompt (--by-prompt) takes them together" in apart.warnings[0]
    assert len(together.records) == 2
    assert together.warnings == (
        "no record says what is right (`answer`) or whether it is (`correct`): the scores alone decide",
    )
    assert rsr.select(scores, path, by_prompt=True, correct="ignore").warnings == ()


def test_teachers_whose_answers_are_not_known_are_named(tmp_path, loaded):
    said = [chat(i, r, answer="42") for i, r in enumerate(replies("a", 2))]
    silent = [chat(i, f"So there are {i} of them.", answer="42") for i in range(2)]
    data = {"said": said, "silent": silent, "without": [chat(i, f"It is {i}.") for i in range(2)]}
    warnings = rsr.select(rsr.score(loaded, data, outputs=tmp_path / "out"), data).warnings
    behind = "they count as unknown, behind answers known to be right"
    assert f"no right answer is given for 2 of 2 of without: {behind}" in warnings
    assert any(w.startswith("no answer is found, or none that can be judged, in 2 of 2 of silent: ") for w in warnings)


def test_prompts_of_plain_text_are_said_to_want_the_template(tmp_path, loaded):
    told = []
    for form in ({"prompt": "1 + 1?", "completion": "2"}, chat(0, "2")):
        data = {"a": [form | {"correct": True}, form | {"id": "other", "correct": True}]}
        chosen = rsr.select(rsr.score(loaded, data, outputs=tmp_path / "out"), data)
        told.append(any("without the chat template that was scored" in warning for warning in chosen.warnings))
    assert told == [True, False]


def test_a_teacher_of_whom_nothing_is_known_is_named_with_the_reason(tmp_path, model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "silent.jsonl", [chat(i, "So be it.", answer="42", id=f"p{i}") for i in range(2)])
    write(tmp_path / "data" / "said.jsonl", [chat(i, r"\boxed{42}", answer="42", id=f"p{i}") for i in range(2)])
    shown = within(capfd, "select", "data", "--student", model, "--dtype", "float32", "-o", "new")
    assert "nothing is selected of silent: whether its answers are right is unknown" in shown


def test_the_order_of_files_and_rows_changes_nothing(tmp_path, loaded):
    data = teachers(tmp_path / "data", 8)
    files = sorted(data.rglob("*.json"))
    named = [f"{p.parent.name}={p}" for p in files]
    shuffled = []
    for p in files:
        records = json.loads(p.read_text())
        random.Random(0).shuffle(records)
        shuffled.append(f"{p.parent.name}={write(tmp_path / 'shuffled' / p.parent.name / 'gen1.json', records)}")
    settings = rsr.Settings(token_budget=1)  # one chat a batch: no rounding between batches
    contents = []
    for given in (named, named[::-1], shuffled):
        scores = rsr.score(loaded, given, outputs=tmp_path / "out", settings=settings)
        contents.append(b"".join(rsr.select(scores, given, share=0.6).content()))
    assert contents[0] == contents[1] == contents[2]


def test_what_overlaps_with_an_evaluation_set_is_listed_and_left_out(tmp_path, loaded):
    problem = "A train leaves at noon and another leaves an hour later, so which of the two arrives first of all?"
    path = write(tmp_path / "a.jsonl", [chat(0, f"You ask: {problem} \\boxed{{42}}", id="p"), chat(1, "No.", id="q")])
    write(tmp_path / "eval.jsonl", [{"id": "e1", "problem": problem}])
    scores = rsr.score(loaded, path, outputs=tmp_path / "out")
    chosen = rsr.select(scores, path, against=[tmp_path / "eval.jsonl"])
    assert chosen.overlaps[0].hits == {"a, p": ["e1"]}
    assert [t.id for t in chosen.trajectories] == ["q"]
    assert chosen.reasons == {"overlapping with eval.jsonl": 1}
    chosen.write(tmp_path / "new")
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["overlaps"][0]["hits"] == {"a, p": ["e1"]}
    assert manifest["sources"][0]["digest"] == trajectories.read(path, "a").digest()


# --- the same verbs from Python --------------------------------------------------------------------------------------


def test_data_may_be_objects(tmp_path, loaded):
    datasets = pytest.importorskip("datasets")
    records = [chat(i, r, id=f"p{i}") for i, r in enumerate(replies("a", 4))]
    path = write(tmp_path / "data.jsonl", records)
    given = [records, datasets.Dataset.from_list(records), path, [record["messages"] for record in records]]
    tables = [rsr.score(loaded, of, outputs=tmp_path / "out") for of in given]
    assert len({scores.artefact.id for scores in tables[:3]}) == 1  # equal content is the same data, wherever it is
    values = [scores.trajectories.filter(metric="rsr")["value"] for scores in tables]
    assert all(v.equals(values[0]) for v in values)
    one = rsr.score(loaded, records[0]["messages"], outputs=tmp_path / "out")
    assert one.trajectories["trajectory"].n_unique() == 1
    teachers_of_two = rsr.score(loaded, {"x": records, "y": path}, outputs=tmp_path / "out")
    assert set(teachers_of_two.datasets["teacher"]) == {"x", "y"}


def test_a_model_may_be_passed_in_and_is_known_by_its_weights(tmp_path, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    first, second = (AutoModelForCausalLM.from_pretrained(model) for _ in range(2))
    data = [chat(i, r) for i, r in enumerate(replies("a", 3))]

    def score(student: Any) -> Any:
        return rsr.score((student, tokenizer), data, outputs=tmp_path / "out")

    one = score(first)
    assert score(second).artefact.id == one.artefact.id
    second.model.layers[0].mlp.up_proj.weight.data[0, 0] += 1
    assert score(second).artefact.id != one.artefact.id
    by_name = rsr.score(model, data, outputs=tmp_path / "out", settings=rsr.Settings(dtype="float32"))
    assert by_name.artefact.id != one.artefact.id
    ours, theirs = (of.trajectories.filter(metric="rsr", preset="")["value"].to_numpy() for of in (one, by_name))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_metric_of_ones_own(tmp_path, loaded):
    declaration: dict[str, Any] = dict(
        title="Mine", unit="nats", direction="lower", levels=("trajectory",), needs="tokens"
    )
    declaration |= dict(per_student=True, source="mine", name="mine")
    data = [chat(i, r) for i, r in enumerate(replies("a", 4))]

    def declared(function, formula):
        METRICS.pop("mine", None)
        rsr.metric(formula=formula, **declaration)(function)
        scores = rsr.score(loaded, data, outputs=tmp_path / "out")
        return scores.trajectories.filter(metric="mine")["value"].to_list()

    try:
        mean = declared(lambda tokens: rsr.Parts(tokens.mean(tokens.surprisal.astype(float))), "mean of s")
        twice = declared(lambda tokens: rsr.Parts(2 * tokens.mean(tokens.surprisal.astype(float))), "2 mean of s")
        assert twice == pytest.approx([2 * v for v in mean])  # changed code is noticed, not taken from disk
        scores = rsr.score(loaded, data, outputs=tmp_path / "out")
        chosen = rsr.select(scores, data, metric="mine", top=1)
        assert chosen.choice.chosen["value"].item() == min(twice)
    finally:
        METRICS.pop("mine", None)


# --- comparing --------------------------------------------------------------------------------------------------------


def test_a_dtype_is_compared_token_by_token(tmp_path, model):
    data = teachers(tmp_path / "data")
    folders = [
        rsr.score(model, data, outputs=tmp_path / "out", settings=rsr.Settings(dtype=dtype))
        for dtype in ("float32", "bfloat16")
    ]
    found = rsr.compare(*folders)
    assert found.tokens is not None
    assert (found.shared, found.only_first, found.only_second, found.warnings) == (12, 0, 0, ())
    assert 0.6 < found.tokens.same_rank < 1
    assert 0 < found.tokens.mean < 0.1
    same = rsr.compare(folders[0], folders[0])
    assert same.tokens is not None
    assert same.tokens.same_rank == 1 and same.tokens.largest == 0
    assert [a.spearman for a in same.agreements] == pytest.approx([1, 1, 1])


def test_another_tokenizer_or_template_is_warned_about(tmp_path, model):
    data = teachers(tmp_path / "data")
    one = rsr.score(model, data, outputs=tmp_path / "out")
    short = rsr.score(model, data, outputs=tmp_path / "out", settings=rsr.Settings(max_length=90))
    assert "have another number of tokens" in rsr.compare(one, short).warnings[0]
    sets = [score_sets.read(s.artefact.path) for s in (one, short)]
    from dataclasses import replace

    other = compare_scores.compare(sets[0], replace(sets[1], tokenizer="another"))
    assert other.warnings[0].startswith("the tokenizers differ")


def test_the_reference_implementations_files_are_read(shared, tmp_path):
    float32 = shared / "golden" / "chatml-float32" / "samples.jsonl"
    bfloat16 = shared / "golden" / "chatml-bfloat16" / "samples.jsonl"
    result = run("compare", float32, bfloat16, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    expected = [
        json.loads(p.with_name("dataset.json").read_text())["rank_surprisal_ratio"] for p in (float32, bfloat16)
    ]
    assert found["agreements"][0]["datasets"]["samples"] == pytest.approx(expected)
    assert found["shared"] == 33
    shown = run("compare", float32, bfloat16, cwd=tmp_path)
    assert "33 trajectories in both" in shown.stdout
