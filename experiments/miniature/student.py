"""The miniature's students: small Llamas, trained on the corpus of a world, and a probe of what they can do.

Those that the studies start from are in `students/`, so that a study is the same on every machine and starts at once:
`python -m experiments.miniature NAME FOLDER` makes one anew and compares.
"""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from experiments.miniature import words
from experiments.miniature.curriculum import Curriculum
from rsr.cli.progress import EveryMinute
from rsr.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

STUDENTS = Path(__file__).parent / "students"  # model folders by the name of the world
SHAPE: dict[str, Any] = dict(
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    initializer_range=0.04,
)
SEQUENCE, BATCH, STEPS = 192, 8, 1800
MUON_RATE, ADAM_RATE = 0.02, 3e-3  # of hidden matrices; of everything else
WARMUP, LAST = 0.05, 0.05  # share of the steps; share of the rate that is left at the end

PROBES = 200


def make(folder: Path, curriculum: Curriculum, seed: int) -> None:
    """Train a student and save it.

    Raises:
        InputError: it has not the competence that the study starts from.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(curriculum.threads)
    try:
        model = pretrained(curriculum, seed)
        known = competences(model, curriculum, seed)
    finally:
        torch.set_num_threads(threads)
    for name, premise in curriculum.premises.items():
        if not premise.least <= known[name] <= premise.most:
            raise InputError(
                f"the {curriculum.name} student has {premise.what} right in {known[name]:.1%} of cases, which should be "
                f"{premise.least:.0%} to {premise.most:.0%}: take another seed"
            )
    model.bfloat16().save_pretrained(folder)
    words.tokenizer(curriculum.vocabulary).save_pretrained(folder)


def pretrained(curriculum: Curriculum, seed: int) -> "LlamaForCausalLM":
    """Train on the corpus of a world: Muon for hidden matrices, AdamW for the rest, cosine after a warm-up.

    The weights are rounded to bfloat16 at the end, which halves what is shipped.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    place = {word: i for i, word in enumerate(curriculum.vocabulary)}
    tokens: dict[str, Any] = {
        f"{name}_token_id": place[word] for name, word in (("eos", words.EOS), ("pad", words.PAD))
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(place), bos_token_id=None, **tokens, **SHAPE))
    optimisers = _optimisers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimiser, _rate) for optimiser in optimisers]
    batches = _batches(curriculum, seed, place)
    console, minute_is_over = Console(stderr=True), EveryMinute()
    task = f"training the {curriculum.name} student"
    for step, batch in enumerate(track(islice(batches, STEPS), task, STEPS, console=console)):
        if minute_is_over() and not console.is_terminal:
            console.print(f"{task}: step {step} of {STEPS}")
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    rounded: LlamaForCausalLM = model.bfloat16().float().eval()
    return rounded


def _optimisers(model: "LlamaForCausalLM") -> "list[torch.optim.Optimizer]":
    import torch

    parameters = list(model.named_parameters())
    hidden = [p for name, p in parameters if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in parameters if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(hidden, lr=MUON_RATE, momentum=0.95, weight_decay=0.1),
        torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int) -> float:
    """Share of the learning rate."""
    warmup = WARMUP * STEPS
    if step < warmup:
        return (step + 1) / warmup
    return LAST + (1 - LAST) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))


def _batches(curriculum: Curriculum, seed: int, place: dict[str, int]) -> "Iterator[torch.Tensor]":
    import torch

    text = (word for document in curriculum.documents(Random(f"{seed}/corpus")) for word in document)
    ids = (place[word] for word in text)
    while True:
        yield torch.tensor(list(islice(ids, BATCH * SEQUENCE))).view(BATCH, SEQUENCE)


def competences(model: Any, curriculum: Curriculum, seed: int) -> dict[str, float]:
    """Share of the exercises of each premise that the student gets right, greedily."""
    import torch

    place = {word: i for i, word in enumerate(curriculum.vocabulary)}
    known: dict[str, float] = {}
    for name, premise in curriculum.premises.items():
        exercises = premise.exercises(PROBES, Random(f"{seed}/probe/{name}"))
        prompt = torch.tensor([[place[word] for word in exercise.prompt] for exercise in exercises])
        answers = [[place[word] for word in exercise.answer] for exercise in exercises]
        longest = max(map(len, answers))
        written = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=longest, do_sample=False
        )
        continuations = written[:, prompt.shape[1] :].tolist()
        known[name] = (
            sum(ids[: len(answer)] == answer for ids, answer in zip(continuations, answers, strict=True)) / PROBES
        )
    return known
