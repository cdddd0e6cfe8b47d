"""What training takes of a device's memory: an estimate from a model's shape, each assumption named.

Bytes are those of `train.sft` under autocast to bfloat16; those of a layer are as a test counts them in a small Llama.
"""

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

FLOAT32, BFLOAT16 = 4, 2

ASSUMED = (
    "weights, gradients and Adam's two moments in float32, spread evenly over the devices (FSDP, ZeRO-3)",
    "gathered: two layers, embeddings and head in bfloat16, where weights are spread",
    "a layer keeps in float32 its input, both norms and what is between them, in bfloat16 five times its width, queries, "
    "keys, values and result of attention, and four times the feed-forward's width; no score matrix",
    "checkpointing keeps each layer's input in float32, and one layer's activations at a time",
    "loss: a tile of logits and the head's part of it in bfloat16, float32 gradients of the whole head (not under LoRA) and of "
    "every position's hidden state; logits never exist whole",
    "LoRA: the student's weights in float32, gradients and moments of the adapters alone",
    "not counted: the CUDA context, fragmentation, buffers of communication, what adapters keep besides their inputs",
)
TILE = (4096, 32_768)  # positions and vocabulary entries of which TRL has logits at a time


@dataclass
class Shape:
    """A decoder's shape, as its config.json has it."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    tied: bool = False  # one matrix for embeddings and head
    attention_bias: bool = False  # of queries, keys and values
    head_norms: bool = False  # of queries and keys

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_size

    @property
    def key_value_width(self) -> int:
        return self.key_value_heads * self.head_size

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        queries_keys_values = self.attention_width + 2 * self.key_value_width
        attention = self.hidden * (queries_keys_values + self.attention_width)
        extra = self.attention_bias * queries_keys_values + self.head_norms * 2 * self.head_size
        return attention + extra + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.ends + self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA on every linear layer but the head."""
        hidden, attention, key_value, inner = self.hidden, self.attention_width, self.key_value_width, self.feed_forward
        widths = 2 * (hidden + attention) + 2 * (hidden + key_value) + 3 * (hidden + inner)
        return self.layers * rank * widths

    @property
    def ends(self) -> int:
        """Parameters of embeddings and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def flops(self, length: float) -> float:
        """Operations per token of a forward pass over a chat of this many tokens; attention is causal."""
        return 2 * (self.parameters - self.vocabulary * self.hidden * (not self.tied)) + self.attention_flops(length)

    def attention_flops(self, length: float) -> float:
        return 2 * self.layers * self.attention_width * length

    def cache(self) -> int:
        """Bytes per token of keys and values in bfloat16."""
        return 2 * self.layers * self.key_value_width * BFLOAT16


class Spread(Enum):
    """Where weights, gradients and optimiser are."""

    none = "one device"
    fsdp = "FSDP"
    offloaded = "ZeRO-3 with offloading"


@dataclass(frozen=True)
class Memory:
    """Bytes on each device, and of main memory on each machine."""

    weights: float
    gradients: float
    optimiser: float
    gathered: float
    activations: float
    loss: float
    main_memory: float = 0.0

    @property
    def device(self) -> float:
        return float(sum(asdict(self).values())) - self.main_memory


def of_training(
    shape: Shape, tokens: int, devices: int, spread: Spread, *, checkpointing: bool, lora_rank: int = 0
) -> Memory:
    """Estimate the memory of fine-tuning.

    Args:
        tokens: in a device's forward pass: the longest chat times the micro-batch.
        devices: that the model is spread over, all of one machine.
        lora_rank: of adapters; 0 trains all weights.
    """
    over = 1 if spread is Spread.none else devices
    adapters = shape.adapters(lora_rank)
    weights = FLOAT32 * (shape.parameters + adapters) / over
    gradients = FLOAT32 * (adapters if lora_rank else shape.parameters) / over
    gathered = 0 if spread is Spread.none else BFLOAT16 * (2 * shape.layer + shape.ends)
    whole_layer = tokens * layer_activations(shape)
    kept = FLOAT32 * tokens * shape.hidden * shape.layers + whole_layer
    optimiser, main_memory = 2 * gradients, 0.0
    if spread is Spread.offloaded:  # with it go the float32 weights that it steps; the devices keep bfloat16
        main_memory, optimiser = devices * (weights + optimiser), 0.0
        weights, gradients = (part * BFLOAT16 / FLOAT32 for part in (weights, gradients))
    return Memory(
        weights=weights,
        gradients=gradients,
        optimiser=optimiser,
        gathered=gathered,
        activations=kept if checkpointing else shape.layers * whole_layer,
        loss=_loss(shape, tokens, head_is_trained=not lora_rank),
        main_memory=main_memory,
    )


def _loss(shape: Shape, tokens: int, *, head_is_trained: bool) -> int:
    """Bytes of the way from hidden states to the loss and back."""
    rows, entries = min(tokens, TILE[0]), min(shape.vocabulary, TILE[1])
    tile = BFLOAT16 * entries * (rows + shape.hidden)
    return tile + FLOAT32 * shape.hidden * (tokens + (shape.vocabulary if head_is_trained else 0))


def layer_activations(shape: Shape) -> int:
    """Bytes per token that a layer keeps for its backward pass."""
    attention = 2 * shape.attention_width + 2 * shape.key_value_width
    return FLOAT32 * 4 * shape.hidden + BFLOAT16 * (5 * shape.hidden + attention + 4 * shape.feed_forward)


def of_config(config: Any) -> Shape | None:
    """The shape that a transformers configuration describes; None where it does not describe such a decoder."""
    text = config.get_text_config()
    try:
        heads = text.num_attention_heads
        return Shape(
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            feed_forward=text.intermediate_size,
            heads=heads,
            key_value_heads=getattr(text, "num_key_value_heads", None) or heads,
            head_size=getattr(text, "head_dim", None) or text.hidden_size // heads,
            vocabulary=text.vocab_size,
            tied=bool(text.tie_word_embeddings),
            attention_bias=text.model_type == "qwen2" or bool(getattr(text, "attention_bias", False)),
            head_norms=text.model_type == "qwen3",
        )
    except AttributeError:
        return None
