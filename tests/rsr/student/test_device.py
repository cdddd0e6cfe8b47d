"""The dtype follows from the device, is said, and is what a student is known by."""

import logging

import pytest
import torch

from rsr.errors import InputError
from rsr.student import device, student
from tests.models import save


def cpu(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_tile": True}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"neon": True, "bf16": True}, "bfloat16"),
        ({"neon": True}, "float32"),
    ],
)
def test_auto_follows_from_the_instruction_sets(monkeypatch, capabilities, dtype):
    cpu(monkeypatch, **capabilities)
    assert device.weights_dtype("auto", "cpu") == dtype
    assert device.weights_dtype("float16", "cpu") == "float16"


def test_the_dtype_that_auto_takes_is_said_and_known(monkeypatch, tmp_path, caplog):
    cpu(monkeypatch, avx2=True)
    folder = save(tmp_path / "student")
    taken = student.load(folder, device="cpu")
    assert (taken.model.dtype, taken.identity["dtype"]) == (torch.float32, "float32")
    assert taken.identity == student.load(folder, device="cpu", dtype="float32").identity
    assert [r.message for r in caplog.records if r.name == device.__name__] == [
        "dtype float32: this cpu does not compute bfloat16 in hardware (--dtype, or dtype=..., chooses another)"
    ]


@pytest.mark.parametrize(("ratio", "lines"), [(1.5, 0), (40.0, 1)])
def test_a_dtype_that_is_slow_here_is_told_of(monkeypatch, caplog, ratio, lines):
    cpu(monkeypatch, avx2=True)
    monkeypatch.setattr(device, "_times_slower", lambda *_: ratio)
    with caplog.at_level(logging.WARNING):
        device.tell_of_dtype("bfloat16", "bfloat16", torch.device("cpu"))
        device.tell_of_dtype("float32", "float32", torch.device("cpu"))
    assert [("40 times" in record.message) for record in caplog.records] == [True] * lines


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="device 'cuda:99' cannot be used"):
        device.weights_dtype("auto", "cuda:99")
