"""The vocabulary: word lists in the order in which the corpus likes them, and the tokenizer made of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, EOS, USER, ASSISTANT = "<pad>", "<unk>", "<eos>", "<user>", "<assistant>"
SPECIAL = (PAD, UNKNOWN, EOS, USER, ASSISTANT)
DIGITS = tuple("0123456789")
ALIEN = tuple(f"zq{i}" for i in range(20))  # in no corpus

# Function words, of which an author prefers some (see `world.Taste`).
CONNECTIVES = [
    "first",
    "then",
    "next",
    "so",
    "now",
    "hence",
    "thus",
    "after",
    "finally",
    "also",
    "again",
    "therefore",
    "later",
    "meanwhile",
    "still",
    "afterwards",
    "further",
    "consequently",
    "accordingly",
    "subsequently",
    "likewise",
    "moreover",
    "besides",
    "indeed",
    "well",
    "right",
    "okay",
    "good",
    "once",
    "here",
    "clearly",
    "simply",
    "directly",
    "surely",
    "easily",
    "quickly",
    "slowly",
    "carefully",
    "patiently",
    "plainly",
    "namely",
    "lastly",
    "onward",
    "thereby",
]
EQUALS = ["=", "gives", "makes", "equals", "is", "yields", "totals", "becomes"]
TAKE = ["take", "add", "include", "join", "append", "attach", "count", "bring"]
KEEP = ["keep", "hold", "remember", "store", "carry", "note", "save", "leaving"]
CHECK = ["check", "verify", "test", "confirm", "prove", "inspect"]
INTRO = (
    "let us begin",
    "we solve it",
    "here we go",
    "let us see",
    "we start now",
    "begin with numbers",
    "time to solve",
    "we work it out",
    "step by step",
    "look at it",
)

# Open classes, drawn evenly.
NAMES = [
    "anna",
    "ben",
    "clara",
    "david",
    "emma",
    "felix",
    "greta",
    "hugo",
    "ida",
    "jonas",
    "karl",
    "lena",
    "maria",
    "nils",
    "olga",
    "paul",
    "rosa",
    "simon",
    "tina",
    "ulla",
    "viktor",
    "wanda",
    "xaver",
    "yara",
    "zoe",
    "otto",
    "mia",
    "leo",
    "eva",
    "max",
]
OBJECTS = [
    "apples",
    "pears",
    "plums",
    "nuts",
    "coins",
    "stamps",
    "books",
    "pens",
    "cards",
    "shells",
    "stones",
    "eggs",
    "cups",
    "plates",
    "keys",
    "bells",
    "lamps",
    "ropes",
    "boxes",
    "hats",
    "shoes",
    "rings",
    "beads",
    "balls",
    "dolls",
    "kites",
    "seeds",
    "leaves",
    "flowers",
    "candles",
]
PLACES = [
    "garden",
    "house",
    "river",
    "forest",
    "market",
    "school",
    "tower",
    "bridge",
    "village",
    "castle",
    "harbour",
    "field",
    "hill",
    "lake",
    "mill",
    "barn",
    "inn",
]
ADJECTIVES = [
    "old",
    "new",
    "small",
    "large",
    "red",
    "blue",
    "green",
    "quiet",
    "loud",
    "dark",
    "bright",
    "cold",
    "warm",
    "empty",
    "narrow",
    "wide",
    "heavy",
    "light",
    "round",
    "dusty",
]
VERBS = [
    "sees",
    "finds",
    "likes",
    "paints",
    "cleans",
    "moves",
    "lifts",
    "sells",
    "hides",
    "draws",
    "opens",
    "drops",
    "washes",
    "repairs",
    "carries",
    "watches",
]
ADVERBS = ["today", "yesterday", "gladly", "often", "rarely", "twice", "together", "alone", "outside", "early"]
GAINS = ["finds", "buys", "gets", "wins"]
REST = [
    "has",
    "have",
    "there",
    "are",
    "in",
    "the",
    "starts",
    "with",
    "more",
    "how",
    "many",
    "does",
    "find",
    "sum",
    "of",
    "compute",
    "what",
    "value",
    "answer",
    "we",
    "and",
    "a",
    "near",
    "was",
    "because",
    "were",
    "+",
    "-",
    ".",
    ",",
    "?",
    ":",
]


def vocabulary() -> list[str]:
    """Every token, special ones first, each once."""
    phrases = [word for phrase in INTRO for word in phrase.split()]
    lists = (SPECIAL, DIGITS, ALIEN, CONNECTIVES, EQUALS, TAKE, KEEP, CHECK, phrases)
    open_classes = (NAMES, OBJECTS, PLACES, ADJECTIVES, VERBS, ADVERBS, GAINS, REST)
    return list(dict.fromkeys(word for words in (*lists, *open_classes) for word in words))


def tokenizer(vocabulary: Sequence[str]) -> "PreTrainedTokenizerFast":
    """One token a word of a vocabulary; its chat template writes `<user>` problem `<assistant>` response `<eos>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=UNKNOWN))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(list(SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
    )
    fast.chat_template = (
        "{%- for message in messages -%}"
        "{%- if message.role == 'user' -%}<user>{{ message.content }}"
        "{%- elif message.role == 'assistant' -%}<assistant>{{ message.content }}<eos>"
        "{%- else -%}{{ raise_exception('the miniature has no system messages') }}{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}<assistant>{%- endif -%}"
    )
    return fast
