"""Every format holds what was scored, and trainers learn the responses of it and nothing else."""

import json
from typing import get_args

import pytest
import yaml

import rsr
from rsr.cli import selecting
from rsr.data import trajectories
from rsr.data.messages import Message
from rsr.data.trajectories import Trajectory
from rsr.selection import trainers
from rsr.selection.formats import Format, convert
from rsr.selection.trainers import Training
from tests.clients import chat, write
from tests.models import save

SYSTEM, ASKED, ANSWERED = Message("system", "Think."), Message("user", "1 + 1?"), Message("assistant", "2")
# ChatML that says which part the assistant wrote: what TRL wants of the template for messages.
MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def trajectory(*messages):
    return Trajectory("p", "p", messages, answer="2")


@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca"])
def test_what_is_written_is_read_as_it_was(form):
    for given in ((SYSTEM, ASKED, ANSWERED), (ASKED, ANSWERED, Message("user", "Sure?"), Message("assistant", "Yes."))):
        read = trajectories.parse([("here", convert(trajectory(*given), form))], "again").trajectories[0]
        assert (read.id, read.answer, tuple(read.messages)) == ("p", "2", given)


@pytest.mark.parametrize(
    ("form", "given"),
    [
        ("prompt-completion", (ASKED, ANSWERED, ASKED, ANSWERED)),
        ("prompt-completion", (ASKED, ANSWERED, ASKED)),
        ("alpaca", (ASKED, ASKED, ANSWERED)),
        ("alpaca", (ASKED, ANSWERED, SYSTEM)),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(form, given):
    with pytest.raises(rsr.InputError, match=r"trajectory p: .*--format messages"):
        convert(trajectory(*given), form)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A selection with system prompts, and its student, whose template says what the assistant wrote."""
    folder = tmp_path_factory.mktemp("formats")
    student = save(folder / "student")
    (student / "chat_template.jinja").write_text(MARKED)
    data = write(
        folder / "a.json",
        [{**chat(i, "2 " * (i + 1) + "end", id=f"p{i}"), "system": "Think."} for i in range(3)],
    )
    scores = rsr.score(student, data, outputs=folder / "outputs", settings=rsr.Settings(dtype="float32"))
    return student, rsr.select(scores, data)


def learned(row):
    return sum(label != -100 for label in row)


@pytest.mark.full
@pytest.mark.parametrize(("form", "behind"), [("prompt-completion", 2), ("messages", 1)])
def test_trl_learns_the_responses_by_the_file_beside_the_data(form, behind, chosen, tmp_path):
    trl = pytest.importorskip("trl")
    student, selection = chosen
    selection.write(tmp_path / "new", form, student=str(student))
    parser = trl.TrlParser((trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, trl.DatasetMixtureConfig))
    _, config, model, data = parser.parse_args_and_config(
        ["--config", str(tmp_path / "new" / "trl.yaml"), "--report_to", "none", "--max_steps", "1", "--use_cpu", "true"]
    )
    trainer = trl.SFTTrainer(model.model_name_or_path, args=config, train_dataset=trl.get_dataset(data)["train"])
    labels = [learned(row) for batch in trainer.get_train_dataloader() for row in batch["labels"].tolist()]
    # What was scored is learned, and the end of turn behind it; of a completion the line's end, too.
    assert sorted(labels) == sorted(tokens + behind for tokens in selection.choice.chosen["tokens"])
    assert trainer.train().global_step == 1


@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca"])
def test_llama_factory_finds_the_turns(form, chosen, tmp_path):
    """Its keys, by its documentation (data/README.md, examples/); it is not installed here."""
    student, selection = chosen
    file = selection.write(tmp_path / "new", form, student=str(student))
    assert (file.parent / "trl.yaml").exists() == (form == "messages")
    settings = yaml.safe_load((file.parent / "llamafactory.yaml").read_text())
    info = json.loads((file.parent / "dataset_info.json").read_text())
    entry = info[settings["dataset"]]
    record = json.loads(file.read_text())[0]
    assert settings["dataset_dir"] == str(file.parent) and entry["file_name"] == file.name
    assert settings["cutoff_len"] == 2048 and settings["learning_rate"] == 1e-5
    assert {*entry["columns"].values()} <= {*record}
    if form != "alpaca":
        turns, tags = record[entry["columns"]["messages"]], entry["tags"]
        said = [turn[tags["role_tag"]] for turn in turns]
        assert said == [tags["system_tag"], tags["user_tag"], tags["assistant_tag"]]
        assert turns[-1][tags["content_tag"]].endswith("end")


def test_settings_say_that_trainers_read_no_weights(tmp_path):
    weighted = {"prompt": "1 + 1?", "completion": "2", "weight": 0.5}
    plain = {name: weighted[name] for name in ("prompt", "completion")}
    for record, said in ((weighted, True), (plain, False)):
        files = trainers.settings(record, tmp_path, "train.jsonl", Training(None, 512, False))
        assert len(files) == 2 and all(("This trainer does not read them" in text) == said for text in files.values())
        assert all(yaml.safe_load(text)["learning_rate"] == 1e-5 for text in files.values())


def test_the_command_offers_every_format():
    assert get_args(Format) == selecting.FORMATS
