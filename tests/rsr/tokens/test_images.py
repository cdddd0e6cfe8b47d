"""Chats with images, under a tiny model that sees: scored as its own forward pass has them, in the key, or refused by name."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from rsr.data import trajectories
from rsr.data.formats import chats
from rsr.errors import InputError
from rsr.student import student as students
from rsr.tokens.engine import Scorer
from rsr.tokens.score_dataset import score_dataset, store_key
from rsr.tokens.settings import Scoring
from tests.models import save, save_seeing

REPLY = "It is a red square. 1 + 2 = 3."


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), np.uint8)
    Picture.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def data_url(seed):
    return "data:image/png;base64," + base64.b64encode(png(seed)).decode()


def asking(*parts, reply=REPLY):
    return [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": reply}]


def shown(seed):
    return {"type": "image_url", "image_url": {"url": data_url(seed)}}


SAYING = {"type": "text", "text": "What is this?"}
RECORDS = [
    {"id": "one", "messages": asking(SAYING, shown(0))},
    {"id": "none", "messages": asking(SAYING)},
    {
        "id": "two turns",
        "messages": [*asking(shown(1), SAYING), *asking(SAYING, shown(2), {"type": "text", "text": "?"})],
    },
    {"id": "another", "messages": asking(SAYING, shown(3))},
]


def read(records):
    return trajectories.parse([(str(i), record) for i, record in enumerate(records)], "teacher")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_seeing(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def scorer(folder):
    return Scorer(students.load(folder, name="seeing", dtype="float32", device="cpu"), Scoring())


def directly(folder, scorer, trajectory):
    """Surprisals of the responses by the model's own forward pass, on what its own processor makes of the chat."""
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    renderer = scorer.student.renderer
    pictures = [
        Picture.open(io.BytesIO(image.content)).convert("RGB") for m in trajectory.messages for image in m.images
    ]
    text = renderer.text(trajectory.messages)
    inputs = AutoProcessor.from_pretrained(folder)(text=text, images=pictures or None, return_tensors="pt")
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(**inputs).logits[0]
    ids = inputs["input_ids"][0]
    surprisals = -logits.log_softmax(-1)[:-1].gather(-1, ids[1:, None])[:, 0]
    reply = renderer.tokenizer(REPLY)["input_ids"]
    starts = [i for i in range(len(ids)) if ids[i : i + len(reply)].tolist() == reply]
    return np.concatenate([surprisals[i - 1 : i - 1 + len(reply)].numpy() for i in starts])


@pytest.mark.parametrize("rendering", ["whole", "turn"])
def test_scores_are_those_of_the_models_own_forward(folder, scorer, tmp_path, rendering):
    of = replace(scorer.student, renderer=scorer.student.renderer)
    of.renderer.rendering = rendering
    data = read(RECORDS)
    (shard,) = score_dataset(Scorer(of, Scoring()), data, tmp_path)
    of.renderer.rendering = "whole"
    for i, t in enumerate(data.trajectories):
        own = shard.tokens.part(i, i + 1).surprisal
        np.testing.assert_allclose(own, directly(folder, scorer, t), rtol=1e-4, atol=1e-5)
    first, last = (shard.tokens.part(i, i + 1).surprisal for i in (0, 3))
    assert np.abs(first - last).max() > 0.01  # they differ in their image alone


def test_placeholders_are_never_scored(scorer):
    renderer = scorer.student.renderer
    placeholder = renderer.tokenizer.convert_tokens_to_ids("<image>")
    chat = renderer.render(read(RECORDS).trajectories[2].messages)
    assert chat.ids.count(placeholder) == 2 * 4
    scored = [chat.ids[at] for at in chat.positions("response+eot")]
    assert placeholder not in scored
    assert renderer.tokenizer.decode([chat.ids[at] for at in chat.positions()]) == REPLY * 2
    assert chat.departures.unseen == 0
    with pytest.raises(InputError, match="max_length=30 cuts into its images"):
        renderer.render(read(RECORDS).trajectories[2].messages, 30)
    cut = renderer.render(read(RECORDS).trajectories[0].messages, chat.turns[0].start + 3)
    assert cut.truncated and len(scorer.score([cut]).rank) == len(cut.positions())


def test_images_and_their_processor_are_in_the_key(scorer):
    keys = [store_key(scorer, read(RECORDS[i : i + 1])) for i in range(4)]
    assert len(str(keys[0]["processor_sha256"])) == 64 and "processor_sha256" not in keys[1]
    assert keys[0]["data"] != keys[3]["data"]
    again, other = (read([{"messages": asking(SAYING, shown(seed))}]) for seed in (0, 3))
    assert again.trajectories[0].problem != other.trajectories[0].problem  # another image asks another thing


def test_who_cannot_see_refuses_by_name(scorer, tmp_path):
    blind = Scorer(students.load(save(tmp_path / "blind"), dtype="float32", device="cpu"), Scoring())
    with pytest.raises(
        InputError, match=r"trajectory one: a message has an image, .*; leave such chats out \(on-error"
    ):
        score_dataset(blind, read(RECORDS), tmp_path / "error")
    store = score_dataset(blind, read(RECORDS), tmp_path / "skip", on_error="skip")
    assert store.artefact.facts["counts"]["left_out"] == 3
    student = students.load(tmp_path / "blind", dtype="float32", device="cpu")
    student.renderer.processor = scorer.student.renderer.processor
    with pytest.raises(InputError, match=r"take a template that shows images|the chat template fails"):
        student.renderer.render(read(RECORDS).trajectories[0].messages)


def test_images_are_read_from_files_tables_and_urls_of_data(tmp_path):
    (tmp_path / "a b.png").write_bytes(png(0))
    for part in (
        shown(0),
        {"type": "input_image", "image_url": data_url(0)},
        {"type": "image", "image": str(tmp_path / "a b.png")},
        {"type": "image", "url": f"file://{tmp_path}/a%20b.png"},
        {"type": "image", "image": {"bytes": png(0), "path": None}},
        {"type": "image", "base64": base64.b64encode(png(0)).decode()},
    ):
        (message, _) = chats.chat({"messages": asking(SAYING, part, SAYING)}).messages
        assert message.content == "What is this?" * 2 and message.spoken == ["What is this?"] * 2
        assert [(image.at, image.content) for image in message.images] == [(13, png(0))]


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        ({"type": "image", "url": "https://x.org/a.png"}, r"the image 0 of message 0 lies in a network \(https:\)"),
        ({"type": "image", "path": "nowhere.png"}, "names the file 'nowhere.png', which cannot be read: save it"),
        ({"type": "image"}, "holds no image: it is named in one of image, image_url"),
        ({"type": "image", "image": "data:image/svg+xml,<svg/>"}, "is a data: URL that is not in base64"),
        ({"type": "image", "image": "data:image/png;base64,!"}, "is no base64"),
    ],
)
def test_images_that_are_not_read_are_refused_with_a_mend(part, refusal):
    with pytest.raises(InputError, match=refusal):
        chats.chat({"messages": asking(SAYING, part)})


def test_what_is_no_image_is_refused(scorer):
    text = {"type": "image", "base64": base64.b64encode(b"no picture").decode()}
    with pytest.raises(InputError, match=r"an image cannot be read: .* leave such chats out"):
        scorer.student.renderer.render(read([{"messages": asking(SAYING, text)}]).trajectories[0].messages)
    typed = asking(SAYING, shown(0), {"type": "text", "text": "<image>"})
    with pytest.raises(InputError, match="the processor refuses the images"):
        scorer.student.renderer.render(read([{"messages": typed}]).trajectories[0].messages)
