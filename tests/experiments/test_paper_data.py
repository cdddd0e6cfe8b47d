"""The paper's data as they lie on the hub, in small: planned, scored by a tiny student, selected from, and compared."""

import json
from random import Random

import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import experiments.trajectory_selection  # noqa: F401  registers its schema
from experiments.analysis import released
from experiments.app.command_configs import SelectionConfig, SelectionSetting
from experiments.app.shared_configs import ROOT
from experiments.stages import teacher_data, training_sets
from rsr.data.places import RELEASED
from rsr.errors import InputError
from rsr.metrics import score_tables
from rsr.selection.rules import Rule
from rsr.store.artefacts import Artefact
from tests.models import save

pytestmark = pytest.mark.full

FOLDERS = ["deepseek-r1-0528", "gptoss-120b-high", "gptoss-20b-high", "magistral-small-2506", "nemotron-super-v15"]
FOLDERS += ["phi4-reason-plus", "qwen3-235b-2507", "qwen3-30b-2507", "qwen3-4b-2507", "qwen3-8b", "QwQ-32B"]
PROBLEMS = 2


def chat(folder, generation, problem):
    said = " ".join(Random(f"{folder}/{generation}/{problem}").choices(["so", "1 + 2 = 3", "wait", "hence"], k=6))
    roles = [("system", "Think."), ("user", f"Problem {problem}?"), ("assistant", f"{said} \\boxed{{42}}")]
    return [{"role": role, "content": content} for role, content in roles]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Lists of messages, those of the first generation as text; and a released selection of the first teacher's alone."""
    folder = tmp_path_factory.mktemp("paper")
    for name in FOLDERS:
        (folder / "data" / name).mkdir(parents=True)
        for generation in (1, 2, 3):
            chats = [chat(name, generation, problem) for problem in range(PROBLEMS)]
            records = [{"messages": json.dumps(of) if generation == 1 else of} for of in chats]
            file = folder / "data" / name / f"short-sys_5k_gen{generation}.json"
            file.write_text(json.dumps(records, indent=2))
    chosen = [{"messages": chat(FOLDERS[0], 1, problem)} for problem in range(PROBLEMS)]
    (folder / "data" / RELEASED).mkdir()
    (folder / "data" / RELEASED / "rsr-min_for_qwen25-3b-base.json").write_text(json.dumps(chosen))
    return folder


def composed(folder, *overrides):
    given = ["student=qwen3b", f"teachers.data={folder / 'data'}", f"paths.outputs={folder / 'out'}", *overrides]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = OmegaConf.to_object(compose("trajectory_selection", overrides=given))
    assert isinstance(config, SelectionConfig)
    return config


def test_the_plan_counts_the_data_and_takes_printed_lengths_without_a_tokenizer(run, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run("plan.py", "student=qwen3b", "teachers=paper", f"teachers.data={folder / 'data'}")
    assert done.returncode == 0, done.stderr
    assert f"33 from 11 teachers, {33 * PROBLEMS} trajectories" in done.stdout
    assert "as the paper prints them, prompts not counted: the student's tokenizer is not at hand" in done.stdout


def test_scored_selected_and_compared(run, folder):
    model = save(folder / "tiny")
    options = [f"student={model}", f"teachers.data={folder / 'data'}", f"paths.outputs={folder / 'out'}"]
    done = run("score.py", *options, "scoring.dtype=float32", "bootstrap.resamples=100")
    assert done.returncode == 0, done.stderr
    (scored,) = (folder / "out" / "scores").iterdir()
    scores = score_tables.read(scored)
    assert scores.datasets.select("teacher", "generation").n_unique() == 33
    assert {*scores.datasets["generation"]} == {"gen1", "gen2", "gen3"}

    config = composed(folder)
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    pool = training_sets.pool(SelectionSetting.all, data, [])
    selection = training_sets.select("rsr", pool, Rule(), scores, config)
    found = released.agreement(selection, data, released.read(config))
    rows = {row["teacher"]: row for row in found.teachers.iter_rows(named=True)}
    own = selection.chosen
    equal = len(own.filter(teacher="deepseek-r1", generation="gen1"))
    assert found.setting == "33-to-1" and found.elsewhere == 0 and released.UNKNOWN not in rows
    assert rows["deepseek-r1"]["released"] == PROBLEMS and rows["deepseek-r1"]["equal"] == equal
    assert {t: row["own"] for t, row in rows.items() if row["own"]} == {
        **dict(own.group_by("teacher").len().iter_rows()),
        released.ALL: PROBLEMS,
    }
    assert found.share == pytest.approx(100 * equal / PROBLEMS)


def test_a_selection_agrees_with_itself_and_strangers_are_counted(folder):
    """The released file holds the choices of one metric, an answer that no teacher gave, and a problem that is not here."""
    config = composed(folder)
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    rows = [("x", d.teacher, d.generation, t.id, "rsr", "") for d in data for t in d.trajectories]
    names = ["student", "teacher", "generation", "trajectory", "metric", "preset"]
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(value=pl.int_range(pl.len()) * 1.0, tokens=1)
    scores = score_tables.Scores(Artefact(folder, {}, {}), table, table)
    pool = training_sets.pool(SelectionSetting.all, data, [])
    selection = training_sets.select("rsr", pool, Rule(), scores, config)
    chosen = [[{"role": m.role, "content": m.content} for m in t.messages] for t in selection.dataset.trajectories]
    chosen[1][2]["content"] = "Nobody said this."
    elsewhere = [{"role": "user", "content": "Another problem?"}, {"role": "assistant", "content": "Yes."}]
    file = folder / "data" / RELEASED / "rsr-min_for_other.json"
    file.write_text(json.dumps([{"messages": of} for of in [*chosen, elsewhere]]))
    found = released.agreement(selection, data, released.read(composed(folder, "student.released=rsr-min_for_OTHER")))
    shares = dict(found.teachers.filter(pl.col("released") > 0).select("teacher", "share").iter_rows())
    assert shares == {"deepseek-r1": 100, released.UNKNOWN: 0, released.ALL: 50} and found.elsewhere == 1


def test_what_does_not_fit_is_said(folder, tmp_path):
    config = composed(folder, "student.released=null")
    with pytest.raises(
        InputError, match=r"student\.released does not say which file of selected_by_rsr is that of qwen3b"
    ):
        released.read(config)
    with pytest.raises(InputError, match="0 files fit student 'qwen3b'"):
        released.read(composed(folder, "student.released=nothing"))
    (tmp_path / "data" / "deepseek-r1-0528").mkdir(parents=True)
    (tmp_path / "data" / "deepseek-r1-0528" / "gen4.json").write_text("[]")
    config = composed(tmp_path)
    with pytest.raises(InputError, match=r"0 files of teacher 'deepseek-r1' fit generation 'gen1' .*it has gen4"):
        teacher_data.load(config.teachers, config.scoring, config.paths)
    with pytest.raises(InputError, match="has no folder selected_by_rsr"):
        released.read(config)
    config.teachers.teachers[0].folder = "*qwq*"
    with pytest.raises(InputError, match=r"0 folders fit teacher 'deepseek-r1' .*it has deepseek-r1-0528"):
        teacher_data.load(config.teachers, config.scoring, config.paths)
