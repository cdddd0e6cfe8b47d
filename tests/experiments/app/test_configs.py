"""Every configuration composes; what is unknown, missing or of the wrong type is refused by name."""

import importlib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.faults.settings import schema_of
from experiments.app import entry
from experiments.app.shared_configs import ROOT, StudentConfig, TeachersConfig
from experiments.paper.published import read
from rsr.errors import InputError

CONFIGS = ROOT / "configs"
PRIMARY = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
for name in PRIMARY:
    importlib.import_module(f"experiments.{name}")  # registers its schema
GROUPS = sorted(
    (group.name, option.stem)
    for group in CONFIGS.iterdir()
    if group.is_dir() and group.name not in ("hydra", "accelerate")
    for option in group.glob("*.yaml")
)
PAPER_STUDENTS = {"qwen14b", "llama8b", "qwen7b", "qwen4b", "qwen3b"}


def composed(name: str, *overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize("primary", PRIMARY)
def test_primary_configs_compose(primary):
    wants_student = "student: ???" in (CONFIGS / f"{primary}.yaml").read_text()
    OmegaConf.to_object(composed(primary, *(["student=smollm2"] if wants_student else [])))


@pytest.mark.parametrize(("group", "option"), GROUPS)
def test_every_option_composes(group, option):
    student = [] if group == "student" else ["student=smollm2"]
    command = "plan" if group == "plan" else "beyond_sft"  # which has every other group
    OmegaConf.to_object(composed(command, f"{group}={option}", *student))


def test_every_primary_config_belongs_to_an_entry_point():
    assert {f"{name}.py" for name in PRIMARY} <= {p.name for p in Path(ROOT / "experiments").glob("*.py")}


def test_students_train_as_printed():
    import polars as pl

    table = pl.read_csv(ROOT / "results/published/students.csv", infer_schema=False)
    for student in PAPER_STUDENTS:
        training = composed("correlation", f"student={student}").student.training
        printed = dict(table.filter(pl.col("student") == student).select("setting", "value").iter_rows())
        for setting in ("learning_rate", "batch_size", "epochs", "max_length"):
            assert float(training[setting]) == float(printed[setting]), (student, setting)


def test_teacher_table_agrees_with_print():
    teachers = OmegaConf.to_object(composed("correlation").teachers)
    assert isinstance(teachers, TeachersConfig)
    scores = read(ROOT / "results/published").scores().filter(student="qwen3b")
    for name, of in (("teacher_params", "params_billion"), ("teacher_performance", "performance")):
        printed = dict(scores.filter(metric=name).select("teacher", "value").iter_rows())
        assert {t.name: getattr(t, of) for t in teachers.teachers} == printed
    assert len(teachers.teachers) * len(teachers.generations) == 33


@pytest.mark.parametrize("path", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_its_configurations(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    # The paper's students ask for it themselves, and the trainer refuses it twice.
    assert not (config.fsdp_config or {}).get("fsdp_activation_checkpointing")


@pytest.mark.parametrize(
    ("given", "teachers", "benchmarks"),
    [
        (["student=miniature"], "miniature", ["miniature"]),
        (["student=miniature", "teachers=paper"], "paper", ["miniature"]),
        (["student=qwen3b"], "paper", ["aime25", "aime24", "amc23", "math500"]),
    ],
)
def test_a_student_brings_its_teachers_and_its_evaluation(run, given, teachers, benchmarks):
    shown = OmegaConf.create(run("correlation.py", *given, "--cfg", "job").stdout)
    assert (shown.teachers.name, shown.evaluation.benchmarks) == (teachers, benchmarks)


def test_students_of_a_sweep_bring_the_same(run):
    result = run("train.py", "-m", "student=miniature,qwen3b")
    assert result.returncode == 1 and "different teachers" in result.stderr


def test_adapters_are_asked_for_on_the_command_line():
    assert composed("train", "student=qwen3b", "student.training.lora.rank=16").student.training.lora.rank == 16


@pytest.mark.parametrize("arguments", [["-m", "student=miniature"], ["student=miniature", "-m"]])
def test_what_a_student_brings_goes_with_the_marks_of_a_sweep(run, arguments):
    result = run("correlation.py", *arguments, "--help")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("primary", PRIMARY)
def test_help_is_given_without_a_student(primary, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{primary}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"experiments.{primary}").main()
    assert ended.value.code == 0
    assert "== Config ==" in capsys.readouterr().out


def test_a_key_in_a_url_is_in_no_record(monkeypatch):
    given = "judge.endpoint=https://user:password@host/v1"
    monkeypatch.setattr(entry, "_running", ("score", composed("score", "student=smollm2", given)))
    monkeypatch.setattr(entry, "_TYPED", ["experiments/score.py", given])
    recorded = entry.composed()
    assert recorded is not None and "endpoint: https://***@host/v1" in recorded
    assert "password" not in recorded + entry.command_line()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("judge.endpoint", "https://***@host/v1"),
        ("judge.extra.callback", "https://host?token=***"),
        ("evaluation.endpoint", "http://***@127.0.0.1/v1"),
        ("evaluation.server", "vllm serve {model} --api-key ***"),
        ("student.template_variables.url", "https://***@host"),
    ],
)
def test_a_key_that_a_record_hides_is_asked_for_anew(name, value):
    command = "evaluate" if name.startswith("evaluation") else "score"
    config = composed(command, "student=smollm2", f"++{name}='{value}'")
    with pytest.raises(InputError, match=f"^{name}: its key is hidden, as records have it: give it anew, {name}="):
        entry.settings_of(config, schema_of(command))


@pytest.mark.parametrize("damaged", [b"metric: caf\xe9", b"metric: [rsr,"])
def test_a_configuration_that_cannot_be_read_is_not_repeated(tmp_path, damaged):
    (tmp_path / "config.yaml").write_bytes(f"{entry._header('score')}\n".encode() + damaged)
    with pytest.raises(InputError, match=r"^\S*config\.yaml: cannot be read \(.*\): repeat another run"):
        entry._repeated(["--repeat", str(tmp_path)], "score")


def test_a_student_that_is_not_there_is_refused_when_it_is_named():
    with pytest.raises(InputError, match=r"\./gone: no such model folder"):
        StudentConfig("gone", "./gone")
