"""The wheel, installed where there is no checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from experiments.app.shared_configs import ROOT
from tests.clients import chat, replies, write
from tests.models import save

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


def test_a_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {n for name in names if not (n := name.split("/")[0]).endswith(".dist-info")} == {"rsr"}
    assert {"rsr/py.typed", "rsr/student/templates/chatml.jinja", "rsr/cli/__init__.py"} <= set(names)


def test_it_works_without_a_checkout(tmp_path, wheel):
    """In an environment of its own, which borrows this one's packages, but for the checkout."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )
    installed = {p.name for p in site.iterdir()}
    assert not installed & {"train", "eval", "tests", "experiments"}
    # A line of a .pth file that is a folder is only put on the path: no .pth of that folder is read, so no checkout.
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    model = save(tmp_path / "model")
    write(tmp_path / "a.jsonl", [chat(i, r) for i, r in enumerate(replies("a", 3))])
    rsr = str(tmp_path / "env" / "bin" / "rsr")

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    where = run(str(python), "-c", "import rsr; print(rsr.__file__)")
    assert where.stdout.startswith(str(site)), where.stderr
    absent = run(str(python), "-c", "import experiments")
    assert "No module named 'experiments'" in absent.stderr
    assert run(rsr, "--help").returncode == 0
    # What only the experiments need is not there.
    alone = "import sys; sys.modules.update(dict.fromkeys(['accelerate', 'hydra', 'datasets', 'gguf'])); import rsr.cli; rsr.cli.main()"
    score = run(str(python), "-c", alone, "score", "--student", str(model), "a.jsonl")
    assert score.returncode == 0, score.stderr
    selected = run(rsr, "select", "--student", str(model), "a.jsonl", "-o", "new")
    assert selected.returncode == 0, selected.stderr
    assert (tmp_path / "new" / "train.jsonl").is_file()
