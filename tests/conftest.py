"""Shared fixtures. $RSR_SHARED names the folder of reference material that tests/conformance compares with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from rsr.student import threads

threads.set_policy()
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two workers on the same cores slow both down manifold

settings.register_profile("unhurried", deadline=None)  # a slow machine is no failure
settings.load_profile("unhurried")

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material; its absence is a failure in CI and a skip elsewhere."""
    folder = os.environ.get("RSR_SHARED")
    if folder is None:
        if os.environ.get("CI"):
            pytest.fail("RSR_SHARED is not set")
        pytest.skip("RSR_SHARED is not set")
    path = Path(folder) if Path(folder).is_absolute() else ROOT / folder
    assert path.is_dir(), f"RSR_SHARED={folder} is no folder"
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run an entry point as a user would, from a folder that is not the checkout."""

    def call(script: str, *arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "experiments" / script), *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


@pytest.fixture
def judge_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A made judge over real HTTP, and its key in the environment."""
    from tests.judge_server import KEY, Judge

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Judge()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A browser without a window; its absence is a failure in CI and a skip elsewhere."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=path, args=arguments)


@pytest.fixture(scope="module")  # a process can start one and no second one
def cluster() -> Iterator[Any]:
    """A Ray cluster of one node with one core, to which a test adds others."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "rsr[ray]"')
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would wait for whatever else runs here
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
    yield cluster
    cluster.shutdown()
