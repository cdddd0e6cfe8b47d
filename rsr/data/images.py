"""Images in messages: read from a file or from the record itself, never from a network."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rsr.data.formats.values import one_of
from rsr.errors import InputError

PARTS = ("image", "image_url", "input_image")  # types of such parts of a content
SOURCES = ("image", "image_url", "url", "path", "base64")
MEND = "save it, and name the file, or write it as a data: URL"


@dataclass(frozen=True)
class Image:
    """An image of a message.

    Attributes:
        at: characters of the message's content before it.
        content: its file.
    """

    at: int
    content: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def image(part: Mapping[str, Any], at: int, what: str) -> Image:
    """The image of a part of a content.

    Args:
        at: characters of the content before it.
        what: what the part is, for messages.

    Raises:
        InputError: it holds none, or one that is not read.
    """
    source = one_of(part, SOURCES, what)
    if isinstance(source, Mapping):  # of API exports, and of images in tables
        source = one_of(source, ("url", "bytes", "path"), what)
    if isinstance(source, bytes) and source:
        return Image(at, source)
    if not isinstance(source, str):
        raise InputError(f"{what} holds no image: it is named in one of {', '.join(SOURCES)}")
    if source == part.get("base64"):
        return Image(at, _decoded(source, what))
    form = urlsplit(source).scheme
    if form == "data":
        head, _, data = source.partition(",")
        if not head.endswith(";base64"):
            raise InputError(f"{what} is a data: URL that is not in base64: {MEND}")
        return Image(at, _decoded(data, what))
    if form in ("http", "https", "ftp", "s3", "gs", "hf"):
        raise InputError(f"{what} lies in a network ({form}:), where nothing is fetched from: {MEND}")
    path = Path(unquote(urlsplit(source).path) if form == "file" else source)
    try:
        return Image(at, path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{what} names the file {str(path)!r}, which cannot be read: {MEND}") from error


def _decoded(data: str, what: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{what} is no base64: {error}") from error
