"""Small chat templates with the traits of families of students, written for the tests, and tokenizers for them.

Traits: default system prompts, thinking that is dropped from earlier turns, wrapped or opened by the generation prompt, trimmed
contents, dates, roles that are folded, spaces between header and response, channels, and no markers at all.
"""

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rsr.student.template import load_template
from tests.models import tokenizer

# Runs of line ends, and line ends after punctuation, stay together, as Qwen's tokenizer has it.
KEEPS_LINE_ENDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """A template and its special tokens.

    Attributes:
        extends: a turn more leaves the tokens before it as they are.
    """

    template: str
    special: tuple[str, ...] = ()
    extends: bool = True
    variables: tuple[tuple[str, str], ...] = ()

    def tokenizer(self) -> PreTrainedTokenizerFast:
        made = keeping_line_ends()
        made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *self.special]})
        made.chat_template = self.template
        return made


def keeping_line_ends() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of Qwen's kind, with a token for two line ends."""
    split = pre_tokenizers.Split(Regex(KEEPS_LINE_ENDS), "isolated")
    return tokenizer(pre_tokenizer=pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)]))


CALLS = """\
{%- for call in m.tool_calls or [] -%}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' -}}
{%- endfor -%}"""
QWEN = """\
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% elif messages[0].role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content -}}
CALLS
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}""".replace("CALLS", CALLS)
QWEN3 = """\
{%- if tools %}<|im_start|>system
Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif -%}
{%- set ns = namespace(asked=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set thought, said = '', m.content -%}
{%- if m.reasoning_content is string -%}{%- set thought = m.reasoning_content -%}
{%- elif '</think>' in m.content -%}
{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- set said = m.content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > ns.asked and (loop.last or thought) -%}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n') -}}
{%- else -%}{{- said -}}{%- endif -%}
CALLS
{{- '<|im_end|>\\n' -}}
{%- elif m.role == 'tool' -%}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' -}}
{%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}""".replace("CALLS", CALLS)
R1 = """\
{{- '<|begin|>' -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content -}}
{%- elif m.role == 'assistant' -%}{{- '<|Assistant|>' + m.content.split('</think>')[-1] -}}
{%- for call in m.tool_calls or [] -%}{{- '<|call|>' + call.function.name + '\\n' }}{{ call.function.arguments | tojson -}}{%- endfor -%}
{{- '<|end|>' -}}
{%- elif m.role == 'tool' -%}{{- '<|output|>' + m.content -}}
{%- else -%}{{- '<|User|>' + m.content -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|Assistant|><think>\\n' -}}{%- endif -%}"""
LLAMA = """\
{{- '<|begin|><|head|>system<|/head|>\\n\\nToday: ' + strftime_now('%d %b %Y') + '<|eot|>' -}}
{%- for m in messages -%}
{{- '<|head|>' + m.role + '<|/head|>\\n\\n' + m.content | trim }}
{%- for call in m.tool_calls or [] %}{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}{% endfor -%}
{{- '<|eot|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|head|>assistant<|/head|>\\n\\n' -}}{%- endif -%}"""
GEMMA = """\
{{- '<bos>' -}}
{%- set first = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' -%}
{%- for m in messages if m.role != 'system' -%}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\\n' + (first if loop.first else '') + m.content | trim -}}
{{- '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"""
MISTRAL = """\
{{- '<s>' -}}
{%- for m in messages -%}
{%- if m.role == 'assistant' and m.tool_calls -%}
[CALLS] {% for call in m.tool_calls %}{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}{% endfor %}</s>
{%- elif m.role == 'assistant' -%}{{- ' ' + m.content + '</s>' -}}
{%- elif m.role == 'tool' -%}{{- '[RESULTS] ' + m.content + '[/RESULTS]' -}}
{%- else -%}{{- '[INST] ' + m.content + '[/INST]' -}}{%- endif -%}
{%- endfor -%}"""
PHI = """\
{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"""
HARMONY = """\
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set ns = namespace(answered=false) -%}
{%- for later in messages[loop.index:] -%}
{%- if later.role == 'assistant' and not later.tool_calls -%}{%- set ns.answered = true -%}{%- endif -%}
{%- endfor -%}
{%- if m.thinking and not ns.answered -%}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' -}}
{%- endif -%}
{%- for call in m.tool_calls or [] -%}
{{- '<|start|>assistant to=' + call.function.name + '<|channel|>commentary<|message|>' }}{{ call.function.arguments | tojson }}{{ '<|call|>' -}}
{%- else -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') -}}
{%- endfor -%}
{%- elif m.role == 'tool' -%}{{- '<|start|>tool<|message|>' }}{{ m.content | tojson }}{{ '<|end|>' -}}
{%- else -%}{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}"""
VICUNA = """\
{{- 'A chat.' -}}
{%- for m in messages -%}
{{- (' ASSISTANT: ' if m.role == 'assistant' else ' USER: ') + m.content + ('</s>' if m.role == 'assistant' else '') -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}"""
PLAIN = """\
{%- for m in messages -%}{{- '### ' + m.role + ':\\n' + m.content + '\\n\\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### assistant:\\n' -}}{%- endif -%}"""

FAMILIES = {
    "qwen2.5": Family(QWEN),
    "qwen3": Family(QWEN3, extends=False),
    "qwen3-2507": Family(
        QWEN3.replace(
            "{{- '<|im_start|>assistant\\n' -}}{%- endif -%}",
            "{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}",
        ),
        extends=False,
    ),
    "r1": Family(R1, ("<|begin|>", "<|User|>", "<|Assistant|>", "<|end|>", "<|call|>", "<|output|>"), extends=False),
    "llama3": Family(
        LLAMA, ("<|begin|>", "<|head|>", "<|/head|>", "<|eot|>"), variables=(("strftime_now", "26 Jul 2024"),)
    ),
    "gemma3": Family(GEMMA, ("<bos>", "<start_of_turn>", "<end_of_turn>")),
    "mistral": Family(MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]", "[CALLS]", "[RESULTS]", "[/RESULTS]")),
    "phi": Family(PHI, ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")),
    "harmony": Family(HARMONY, ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>")),
    "vicuna": Family(VICUNA, ("</s>",)),
    "vicuna, spaced": Family(VICUNA.replace("' ASSISTANT:' ", "' ASSISTANT: ' "), ("</s>",)),
    "chatml": Family(load_template("chatml")),
    "packaged llama3": Family(load_template("llama3"), ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "plain": Family(PLAIN),
}
