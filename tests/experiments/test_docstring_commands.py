"""Every command that a docstring shows runs, in small, with students whose templates think."""

import itertools
import json
import random
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from transformers import AutoTokenizer, LlamaForCausalLM

from experiments.analysis import failure_examples
from experiments.app.entry import _brought, _open
from experiments.app.shared_configs import ROOT
from rsr.student.template import load_template
from tests.experiments.app.test_commands import COMMANDS, shown
from tests.experiments.study.test_study_commands import COMMANDS as REPRODUCED
from tests.models import save

pytestmark = pytest.mark.full

CHATML = load_template("chatml")
# Students that go on from an opened thought and forget earlier ones, as R1's distilled ones do; and such as Qwen3, which
# write an empty thought before an answer without one.
OPENS = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]").replace(
    "'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'"
)
FILLS = CHATML.replace(
    "'\\n' + message['content']",
    "'\\n' + ('<think>\\n\\n</think>\\n\\n' if message['role'] == 'assistant' and '<think>' not in message['content'] else '')"
    " + message['content']",
)
STAGES = ("score", "train", "evaluate")  # measure whatever student they are given
OF_PAPER = ("qwen3b", "qwen4b", "qwen7b", "qwen14b", "llama8b", "all")
TEACHERS = ("chain_near", "mixed", "direct_far")
SMALL = {
    "bootstrap.resamples": 100,
    "evaluation.samples": 1,
    "evaluation.max_new_tokens": 4,
    "scoring.dtype": "float32",
    "scoring.device": "cpu",
    "gradients.dimensions": 2,
    "selection.methods": ["random", "rsr"],
    "selection.seeds": [0],
    "within.seeds": [0],
    "within.shares": [0.5],
    "examples": 2,
    "appended": [3],
    "run": True,
}
TRAINING = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 1, "max_length": 512, "micro_batch": 8}
SMALL |= {f"student.training.{name}": value for name, value in TRAINING.items()}
GRPO = {"steps": 1, "prompts": 2, "samples": 2, "max_new_tokens": 4, "micro_batch": 4}
REINFORCED = {f"reinforcement.{name}": value for name, value in GRPO.items()}  # whatever a docstring asks for


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two students, three teachers of two generations that think, and test sets."""
    place = tmp_path_factory.mktemp("docstrings")
    assert OPENS != CHATML != FILLS
    for name, template in (("opens", OPENS), ("fills", FILLS), ("plain", CHATML)):
        save(place / name, seed=len(name))
        file = next((place / name).glob("chat_template*"))
        file.write_text(template)
    _teach_words(place / "plain")
    rng = random.Random(0)
    for teacher, generation in itertools.product(TEACHERS, ("gen1", "gen2")):
        chats = [
            [
                {"role": "user", "content": f"What is {i} + 2?"},
                {
                    "role": "assistant",
                    "content": f"<think>\n{'Hm. ' * rng.randint(1, 5)}\n</think>\n\n\\boxed{{{i + 2}}}.",
                },
            ]
            for i in range(8)
        ]
        folder = place / "data" / teacher
        folder.mkdir(parents=True, exist_ok=True)
        records = [{"id": f"p{i}", "answer": str(i + 2), "messages": chat} for i, chat in enumerate(chats)]
        (folder / f"{generation}.json").write_text(json.dumps(records))
    rows = [{"id": str(i), "problem": f"What is {i} + 3?", "answer": str(i + 3)} for i in range(3)]
    for benchmark in ("miniature", "gsm8k", "aime24", "math500"):
        (place / f"{benchmark}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def _teach_words(folder):
    """A student that has a token for each word of the examples in English of where RSR goes wrong."""
    fast, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder)
    fast.add_tokens(sorted({word for sample in failure_examples.english(2, 0).closed for word in sample.counted or ()}))
    model.resize_token_embeddings(len(fast))
    for saved in (model, fast):
        saved.save_pretrained(folder)


def typed(name, words, place):
    """The overrides of a command in a docstring, and those that make it small: a job each in a sweep."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    published = set(given.get("student", "all").split(",")) & {*OF_PAPER}
    measured = name in STAGES or not published or bool({"run", "source", "teachers"} & set(given))
    if measured and "student" in given:
        given["student"] = str(place / ("plain" if name == "failures" else "opens"))  # its examples think nothing
    if measured and "others" in given:
        given["others"] = f"[{place / 'fills'}]"
    if given.get("teachers") not in (None, "none"):
        given["teachers"] = str(place / ("data/mixed/gen1.json" if given["teachers"] == "FILE" else "data"))
    elif measured and "student" in given:
        given["teachers"] = str(place / "data")
    if given.get("evaluation.data"):
        given["evaluation.data"] = str(place)
    choices = [[f"{key}={v}" for v in ([value] if "[" in value else value.split(","))] for key, value in given.items()]
    return [list(job) for job in itertools.product(*choices)], measured


def run(name, job, measured, place):
    """One job, composed as the entry point does."""
    options = [_open(word) for word in job]
    options += _brought(options, name)
    defaults = OmegaConf.load(ROOT / "configs" / f"{name}.yaml").defaults
    groups = {str(group) for default in defaults if isinstance(default, DictConfig) for group in default}
    if "teachers" not in groups:
        options = [option for option in options if not option.startswith("teachers=")]
    if measured and "evaluation" in groups:
        options = ["evaluation=miniature", *(option for option in options if not option.startswith("evaluation="))]
    module = __import__(f"experiments.{name}", fromlist=["main"])  # which registers its schema
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose(name, overrides=options)
    given = {option.split("=")[0] for option in job}
    small = {key: value for key, value in SMALL.items() if key not in given}
    small |= REINFORCED | {"paths.outputs": str(place / "out"), "paths.results": str(place / "res")}
    if measured:
        small |= {"evaluation.data": str(place), "teachers.fewer": [*TEACHERS[:2]]}
    for key, value in small.items():
        if OmegaConf.select(config, key.rpartition(".")[0] or key, default=None) is not None:
            OmegaConf.update(config, key, value)
    module.main.__wrapped__(OmegaConf.to_object(config))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_what_a_docstring_shows_runs(path, place, monkeypatch):
    monkeypatch.chdir(place)
    for words in shown(path):
        at = next(i for i, word in enumerate(words) if word.endswith(".py"))
        if [path.name, *words[at + 1 :]] in REPRODUCED.values():
            continue  # run by that test
        if not (ROOT / "configs" / f"{path.stem}.yaml").is_file():
            subprocess.run([sys.executable, str(path), *words[at + 1 :]], check=True)
            continue
        if path.stem == "evaluate":
            run("train", [f"student={place / 'opens'}", f"teachers={place / 'data'}"], True, place)
        jobs, measured = typed(path.stem, words[at + 1 :], place)
        for job in jobs:
            run(path.stem, job, measured, place)
