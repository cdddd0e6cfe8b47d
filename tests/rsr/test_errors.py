"""What is said of an error can be shown: it holds no key and steers no terminal."""

import pytest

from rsr.errors import InputError, hides_key, in_one_line, without_keys


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("judge.endpoint=https://user:pass@host:8000/v1", "judge.endpoint=https://***@host:8000/v1"),
        ("'https://token@host/v1'", "'https://***@host/v1'"),
        ("https://u:p@ss@host/?a=1&api_key=sk-1&b=2", "https://***@host/?a=1&api_key=***&b=2"),
        ("vllm serve m --api-key sk-1 --hf-token=sk-2 --port 1", "vllm serve m --api-key *** --hf-token=*** --port 1"),
        ("rsr score --token-budget 512 --max-tokens 8", "rsr score --token-budget 512 --max-tokens 8"),
        ("http://localhost:8000/v1?x=y", "http://localhost:8000/v1?x=y"),
        ("mail me@host, file:///a/b@c.json", "mail me@host, file:///a/b@c.json"),
    ],
)
def test_keys_in_urls_and_commands_are_hidden(text, shown):
    assert without_keys(text) == shown
    assert str(InputError(text)) == shown
    assert hides_key(shown) == (shown != text) and not (shown == text and hides_key(text))
    assert in_one_line(OSError(2, "No such file", text)) == f"{shown}: No such file"
