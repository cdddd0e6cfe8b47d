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
    "logits of every position: in bfloat16, in float32, and a float32 copy on the way to the loss or back",
    "not counted: the CUDA context, fragmentation, buffers of communication",
)


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
        """Parameters of low-rank adapters on every linear layer but the head."""
        attention = 2 * (self.hidden + self.attention_width) + 2 * (self.hidden + self.key_value_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.feed_forward))

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
    logits: float
    main_memory: float = 0.0

    @property
    def device(self) -> float:
        return float(sum(asdict(self).values())) - self.main_memory


def of_training(
    shape: Shape, tokens: int, devices: int, spread: Spread, *, checkpointing: bool, rank: int = 0
) -> Memory:
    """Estimate the memory of full fine-tuning, or of training adapters of a rank.

    Args:
        tokens: in a device's forward pass: the longest chat times the micro-batch.
        devices: that the model is spread over, all of one machine.
        rank: of adapters, which alone have gradients and an optimiser; 0 trains all weights. They are trained on one device.
    """
    assert not rank or spread is Spread.none
    parts = 1 if spread is Spread.none else devices
    share = FLOAT32 * shape.parameters / parts
    trained = FLOAT32 * shape.adapters(rank) if rank else share
    gathered = 0 if spread is Spread.none else BFLOAT16 * (2 * shape.layer + shape.ends)
    whole_layer = tokens * layer_activations(shape)
    kept = FLOAT32 * tokens * shape.hidden * shape.layers + whole_layer
    optimiser, main_memory = 2 * trained, 0.0
    if spread is Spread.offloaded:  # with it go the float32 weights that it steps; the devices keep bfloat16
        main_memory, optimiser = devices * 3 * share, 0.0
        share = trained = share * BFLOAT16 / FLOAT32
    return Memory(
        weights=share + (trained if rank else 0),
        gradients=trained,
        optimiser=optimiser,
        gathered=gathered,
        activations=kept if checkpointing else shape.layers * whole_layer,
        logits=tokens * shape.vocabulary * (BFLOAT16 + FLOAT32 + FLOAT32),
        main_memory=main_memory,
    )


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
