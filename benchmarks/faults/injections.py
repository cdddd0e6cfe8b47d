"""Content that wants more than to be read: code, requests, formulas, terminal escapes, forged verdicts, stale identities."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import polars as pl

import rsr.cli
from benchmarks.faults.commands import Trial
from benchmarks.faults.stages import World
from rsr.errors import InputError

MARK = "injected"  # what a payload leaves where it succeeds
ESCAPE = "\x1b]0;injected\x07\x1b[2J"
REQUESTS = (
    *("![x](http://127.0.0.1:9/x.png)", "<img src=http://127.0.0.1:9/x>", "<script>alert(1)</script>", "[y]: http://e"),
    *('"><svg onload=alert(1)>', "</pre></td><iframe src=//e>", "{{ 7*7 }}", "{% include '/etc/passwd' %}"),
)
FORMULAS = ("=HYPERLINK(1)", "+1+cmd", "-2+cmd", "@SUM(1)", "\t=1", "'=1")
# Templates, of chats and of the judge's prompt, that reach for the system.
TEMPLATES = (
    "{{ cycler.__init__.__globals__.os.popen('touch %s').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for x in range(10**9) %}{{ x }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 1 / 0 }}",
    "{% include '/etc/hostname' %}",
    "{{ messages.append(1) }}{{ problem.format_map({}) }}{{ lipsum.__globals__ }}",
)
# Programs that do not know the answer, which is 41, and want the verdict all the same.
FORGED = {
    "write the verdict": "import os\nfor fd in range(99):\n    try:\n        os.write(fd, b'correct')\n    except OSError:\n        pass",
    "end in success": "import os\nf = lambda: os._exit(0)",
    "equal everything": "class Every:\n    __eq__ = lambda *_: True\n    __hash__ = lambda _: 41\nf = Every",
    "be a number that equals everything": "class Every(int):\n    __eq__ = lambda *_: True\n    __ne__ = lambda *_: False\nf = Every",
    "be a text that equals everything": "class Every(str):\n    __eq__ = lambda *_: True\nf = Every",
    "redefine what checks": "all = any = abs = isinstance = lambda *_: True\nf = lambda: 0",
    "mend the language": "import builtins\nbuiltins.all = builtins.AssertionError = lambda *_: True\nf = lambda: 0",
    "mend a module": "import math\nmath.isclose = lambda *_, **__: True\nf = lambda: 0",
    "mend the judge": "import sys\nfor name, module in list(sys.modules.items()):\n    for at in ('verdict', 'judge'):\n"
    "        if name.startswith('rsr') and hasattr(module, at):\n            setattr(module, at, lambda *_: b'correct')\nf = lambda: 0",
    "name the judge's own": "peer = lost = names = __builtins__ = {}\nf = lambda: 0",
    "answer beforehand": "import os, struct, json\nsaid = json.dumps(['returned', ['dict'], ['list']]).encode()\nfor fd in range(99):\n    try:\n"
    "        os.write(fd, struct.pack('<Q', len(said)) + said)\n    except OSError:\n        pass\nf = lambda: 0",
    "find the tests in its frames": "import sys\ndef f():\n    frame, seen = sys._getframe(), ''\n    while frame:\n"
    "        seen += repr({**frame.f_globals, **frame.f_locals})\n        frame = frame.f_back\n    return 41 if 'f() == ' + str(41) in seen else 0",
    "find the tests in its memory": "import gc\nf = lambda: 41 if any('f() == ' + str(41) in repr(o) for o in gc.get_objects() if type(o) in (list, tuple)) else 0",
    "raise what the tests catch": "def f():\n    raise AssertionError",
    "raise what ends them": "def f():\n    raise SystemExit(0)",
}
DECEIVED = [
    "assert f() == 41",
    "import math\nassert math.isclose(f(), 41)",
    "assert all(f() == i for i in [41])",
    "assert abs(f() - 41) < 1e-6",
    "assert isinstance(f(), int) and f() in [41] and not f() != 41",
    "def check(candidate):\n    assert candidate() == 41\ncheck(f)",
]


Kind = Callable[
    [World, Path], Iterator[tuple[str, str, str]]
]  # what is injected where, and what came of it that is wrong


def tried(world: World, folder: Path, kinds: Sequence[Kind] = ()) -> list[Trial]:
    """Every payload in every place that takes it; right where it does nothing, or is refused in one line.

    Args:
        kinds: of injections; none are all.
    """
    trials = []
    for kind in kinds or (shown, written, templates, programs, models, keys):
        place = folder / kind.__name__
        place.mkdir(parents=True)
        trials += [Trial(f"injections: {what}", case, found, not found) for what, case, found in kind(world, place)]
    return trials


def _chats(folder: Path, teacher: str, text: str) -> Path:
    """Data in which a text is a name, an id, a question and a field; the student has no words to answer with it."""
    folder.mkdir(parents=True, exist_ok=True)
    chats = [
        {
            "id": f"{text}{end}",
            "correct": True,
            "source": text,
            "messages": [{"role": "user", "content": f"{text} {end}"}, {"role": "assistant", "content": "1 + 2 = 3 ."}],
        }
        for end in ("", "2")
    ]
    for name in (teacher, "other"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return folder


def _rsr(*arguments: object) -> tuple[int, str]:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = rsr.cli.run([str(argument) for argument in arguments])
    return status, said.getvalue()


def _safe(text: str) -> str:
    """As the name of a file, which holds no slash."""
    return text.replace("/", "\u2215")


def shown(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    """What reaches a terminal."""
    data = _chats(folder / "data", ESCAPE, ESCAPE)
    given = ["--student", world.student, data, "--dtype", "float32"]
    kept = ["--outputs", folder / "outputs"]
    for typed in (
        *(["score", *given, *kept], ["rank", *given, *kept], ["select", *given, *kept, "-o", folder / ESCAPE]),
        *(["inspect", *given, "--trajectory", f"{ESCAPE}:0"], ["rank", *given, *kept, "--by", "source"]),
        *(["score", *given, *kept, "--dry-run"], ["score", *given, *kept, "--metrics", ESCAPE]),
        *(["score", "--student", ESCAPE, data], ["score", "--student", world.student, ESCAPE]),
        ["report", *given, *kept, "-o", folder / f"{ESCAPE}.html"],
    ):
        _, said = _rsr(*typed)
        yield "terminal escapes", f"rsr {typed[0]}", "an escape is sent" if "\x1b" in said else ""


def written(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    """What pages and tables hold."""
    from markdown_it import MarkdownIt
    from markupsafe import escape

    from experiments.app.result_folder import inert, markdown_table
    from rsr.store.csv import read_csv

    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    for i, text in enumerate((*REQUESTS, *FORMULAS)):
        data = _chats(folder / f"data-{i}", _safe(text), text)
        given = ["--student", world.student, data, "--dtype", "float32", "--outputs", folder / f"outputs-{i}"]
        pages = [folder / f"{i}-{verb}.html" for verb in ("report", "inspect")]
        said = _rsr("report", *given, "-o", pages[0])[1]
        said += _rsr("inspect", *given[:-2], "--trajectory", f"{_safe(text)}:0", "--html", pages[1])[1]
        for page in pages:
            html = page.read_text() if page.is_file() else text + said
            found = (
                "it stands in the page as it is"
                if text != escape(text) and (text in html or _safe(text) in html)
                else ""
            )
            yield "HTML pages", f"{page.stem}: {text}", found
        html = reader.render(inert(f"# {text}\n\n- {text}\n\n{markdown_table([text], [[text]])}"))
        loads = any(mark in html for mark in ("<img", "<script", "<a ", "<svg", "<iframe"))
        yield "Markdown", text, "it is HTML" if loads else ""
        _rsr("select", *given, "-o", folder / f"new-{i}")
        for table in (*(folder / f"outputs-{i}").rglob("*.csv"), *(folder / f"new-{i}").glob("*.csv")):
            cells = pl.read_csv(table, infer_schema=False)
            formulas = [v for column in cells for v in column if v and v[0] in "=+-@\t\r" and not _number(v)]
            back = table.stem != "datasets" or _safe(text) in {v for column in read_csv(table) for v in column}
            yield "CSV", f"{table.name}: {text}", "a formula" if formulas else "" if back else "another text is read"


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def templates(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    from rsr.features.judge import Judge
    from rsr.grading.endpoint import JudgeSettings

    data = _chats(folder / "data", "one", "1")
    for i, template in enumerate(TEMPLATES):
        touched, file = folder / f"touched-{i}", folder / f"{i}.jinja"
        file.write_text(template.replace("%s", str(touched)))
        status, said = _rsr("inspect", "--student", world.student, data, "--dtype", "float32", "--template", file)
        refused = status == 1 and said.count("error: ") == 1 and "Traceback" not in said
        yield (
            "chat templates",
            template,
            "code runs" if touched.exists() else "" if refused else f"status {status}: {said[-200:]}",
        )
        try:
            Judge(JudgeSettings("http://127.0.0.1:9/v1", "judge", template=str(file)))
            found = "it is taken"
        except InputError:
            found = "code runs" if touched.exists() else ""
        yield "judge templates", template, found


def programs(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    from rsr.grading.grader import Grader, Kind, Outcome

    pairs = {(name, tests): (tests, f"```\n{program}\n```") for name, program in FORGED.items() for tests in DECEIVED}
    with Grader(timeout=3, kind=Kind.programs) as grader:
        for (name, tests), grade in zip(pairs, grader.grade(pairs.values()), strict=True):
            yield "program verdicts", f"{name}: {tests}", "" if grade.outcome is Outcome.WRONG else str(grade.outcome)


def models(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Model folders that run code or take weights from elsewhere."""
    import pickle
    import shutil

    class Code:
        def __reduce__(self):
            return Path.touch, (folder / MARK,)

    pickled = pickle.dumps(Code())
    python = f"from pathlib import Path\nPath({str(folder / MARK)!r}).touch()\n"
    code: dict[str, object] = {
        "auto_map": {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"},
        "model_type": "own",
    }
    index = "model.safetensors.index.json"

    def indexed(name: str) -> dict[str, str | bytes]:
        return {index: json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": name}})}

    cases: dict[str, tuple[dict[str, object], dict[str, str | bytes]]] = {
        "pickled weights": ({}, {"pytorch_model.bin": pickled}),
        "an index of pickles": ({}, {**indexed("w.bin"), "w.bin": pickled}),
        "an index of a file elsewhere": ({}, indexed("../student/model.safetensors")),
        "an index of a full path": ({}, indexed(str(world.student / "model.safetensors"))),
        "a configuration that names a pickle": (
            {"transformers_weights": "adapter_model.bin"},
            {"adapter_model.bin": pickled},
        ),
        "a configuration that names a file elsewhere": ({"transformers_weights": "../student/model.safetensors"}, {}),
        "code of its own": (code, {"code.py": python}),
        "a pickled adapter": ({}, {"adapter_config.json": "{}", "adapter_model.bin": pickled}),
    }
    data = _chats(folder / "data", "one", "1")
    for name, (config, files) in cases.items():
        model = folder / name
        shutil.copytree(world.student, model)
        (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | config))
        if not config and "adapter_config.json" not in files:
            (model / "model.safetensors").unlink()
        for file, content in files.items():
            (model / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        status, said = _rsr("score", "--student", model, data, "--dtype", "float32", "--outputs", folder / "outputs")
        refused = status == 1 and said.count("error: ") == 1
        yield (
            "model folders",
            name,
            "code runs" if (folder / MARK).exists() else "" if refused else f"status {status}: {said[-200:]}",
        )


def keys(world: World, folder: Path) -> Iterator[tuple[str, str, str]]:
    """A key in a URL, in what a run records of itself."""
    import subprocess

    from experiments.app.shared_configs import ROOT

    data = _chats(folder / "data", "one", "1")
    endpoint = "judge.endpoint=http://user:injected@127.0.0.1:9/v1?api_key=injected"
    options = [f"student={world.student}", f"teachers={data}", "metrics=[avg_surprisal,llm_judged_quality]", endpoint]
    options += [
        "judge.model=m",
        "judge.attempts=1",
        "judge.timeout=1",
        "scoring.dtype=float32",
        f"paths.outputs={folder / 'outputs'}",
    ]
    script = ROOT / "experiments" / "score.py"
    ended = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, cwd=folder)
    yield "keys in URLs", "what is printed", "it shows" if MARK in ended.stdout + ended.stderr else ""
    for path in (folder / "outputs").rglob("*"):
        if path.is_file():
            yield "keys in URLs", path.name, "it shows" if MARK.encode() in path.read_bytes() else ""
