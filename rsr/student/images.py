"""A student's processor of images: placeholders in the text of a chat, and the tensors that the model takes with it."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rsr.data.images import Image
from rsr.errors import InputError
from rsr.student.responses import Response

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import ProcessorMixin

OF_TEXT = ("input_ids", "attention_mask", "offset_mapping", "text_replacement_offsets")
LEAVE_OUT = "leave such chats out (on-error skip)"


@dataclass(frozen=True)
class ShownImages:
    """The images of a chat, as its student is shown them. Their tensors are made when they are asked for: they are large.

    Attributes:
        text: of the chat, with a placeholder for each.
        end: tokens up to the last placeholder, itself included.
    """

    processor: "ImageProcessor" = field(repr=False)
    text: str = field(repr=False)
    images: tuple[Image, ...]
    end: int

    def tensors(self, length: int) -> "dict[str, Tensor]":
        """What the model takes besides the ids of so many tokens; what is of each token, shape (1, length), is cut with them."""
        made = self.processor.processed(self.text, self.images, return_tensors="pt")
        size = made["input_ids"].shape
        others = {name: value for name, value in made.items() if name not in OF_TEXT}
        return {name: value[:, :length] if value.shape == size else value for name, value in others.items()}


class ImageProcessor:
    """Processes the chats of one student that have images.

    Args:
        processor: of transformers, for text and images.
    """

    def __init__(self, processor: "ProcessorMixin") -> None:
        self._processor = processor

    def identity(self) -> str:
        """SHA-256 of its settings."""
        return hashlib.sha256(self._processor.to_json_string().encode()).hexdigest()

    def processed(self, text: str, images: Sequence[Image], **settings: Any) -> Mapping[str, Any]:
        """What the processor makes of a text with a placeholder for each image.

        Raises:
            InputError: an image cannot be read, or the text has not as many placeholders.
        """
        try:
            made: Mapping[str, Any] = self._processor(
                text=[text], images=[_opened(image) for image in images], add_special_tokens=False, **settings
            )
        except (ValueError, StopIteration) as error:
            reason = " ".join(str(error).split()) or "another number of placeholders than of images"
            raise InputError(
                f"the processor refuses the images: {reason}: take a template that shows images, or {LEAVE_OUT}"
            ) from error
        return made

    def shown(
        self, text: str, responses: Sequence[Response], images: Sequence[Image]
    ) -> tuple[str, list[Response], Mapping[str, Any], ShownImages]:
        """A chat with its images: its text with all placeholders, its responses there, its encoding, and the images.

        Raises:
            InputError: see `processed`; or a placeholder lies in a response.
        """
        made = self.processed(text, images, return_offsets_mapping=True, return_text_replacement_offsets=True)
        placed = made["text_replacement_offsets"][0]
        moved = [_moved(response, placed) for response in responses]
        whole, at = "", 0
        for one in placed:
            whole += text[at : one["span"][0]] + one["replacement"]
            at = one["span"][1]
        encoding = {"input_ids": list(made["input_ids"][0]), "offset_mapping": made["offset_mapping"][0]}
        last = placed[-1]["new_span"][1]
        end = sum(start < last for start, _ in encoding["offset_mapping"])
        return whole + text[at:], moved, encoding, ShownImages(self, text, tuple(images), end)


def _moved(response: Response, placed: Sequence[Mapping[str, Any]]) -> Response:
    """A response behind placeholders that have grown."""
    if response.start < 0:
        return response
    if any(response.prompt < one["span"][1] and one["span"][0] < response.end for one in placed):
        raise InputError(f"message {response.message}: the response holds the placeholder of an image: {LEAVE_OUT}")
    before = [one for one in placed if one["span"][1] <= response.prompt]
    gain = sum(len(one["replacement"]) - (one["span"][1] - one["span"][0]) for one in before)
    return replace(response, prompt=response.prompt + gain, start=response.start + gain, end=response.end + gain)


def _opened(image: Image) -> Any:
    from PIL import Image as Picture

    try:
        return Picture.open(io.BytesIO(image.content)).convert("RGB")
    except OSError as error:
        raise InputError(f"an image cannot be read: {error}: {LEAVE_OUT}") from error
