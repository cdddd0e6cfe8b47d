"""Real models small enough for tests: random weights, a real byte-level tokenizer trained on the spot."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rsr.student.template import load_template

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = ["Let us add: 1 + 2 = 3.", "\n\nThe final answer is \\boxed{42}.", "<think>\nHm, perhaps not.\n</think>"] * 20


def tokenizer(
    template: str | None = "chatml", pre_tokenizer: pre_tokenizers.PreTokenizer | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ChatML markers; None splits texts as GPT-2 does."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = load_template(template) if template else None
    return fast


def save(folder: Path, *, seed: int = 0, template: str | None = "chatml", tied: bool = True, **config: object) -> Path:
    """A tiny Llama of random weights with that tokenizer, saved as a model folder."""
    torch.manual_seed(seed)
    fast = tokenizer(template)
    shape: dict[str, Any] = dict(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        initializer_range=0.3,  # wide, so that predictions differ
    )
    LlamaForCausalLM(LlamaConfig(**(shape | config))).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


SEEING = """\
{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' -}}
{%- if m.content is string -%}{{- m.content -}}
{%- else -%}{%- for part in m.content -%}{{- '<image>' if part.type == 'image' else part.text -}}{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def save_seeing(folder: Path) -> Path:
    """A tiny LLaVA of random weights, with its processor, saved as a model folder: 4 tokens an image."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    fast = tokenizer()
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<image>"]})
    fast.chat_template = SEEING
    shape: dict[str, Any] = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    text = LlamaConfig(vocab_size=len(fast), max_position_embeddings=512, initializer_range=0.3, **shape)
    vision = CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=32, initializer_range=0.3, **shape)
    (placeholder,) = fast("<image>")["input_ids"]
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=placeholder)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    size = {"shortest_edge": 16}
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size={"height": 16, "width": 16}),
        tokenizer=fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=SEEING,
    ).save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors") -> Path:
    """The same model folder, its weights changed in place."""
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})
    return folder


def add_adapter(folder: Path) -> Path:
    """The same model folder with a low-rank adapter beside the weights, as PEFT saves it."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(LlamaForCausalLM.from_pretrained(folder), lora).save_pretrained(str(folder))
    return folder


def together(run):
    """Results of two processes of one run, here in a thread each."""
    barrier = threading.Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(run, (i, 2), barrier.wait) for i in range(2)]
        return [of.result() for of in started]
