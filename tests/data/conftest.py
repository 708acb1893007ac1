"""Small made images for the tests of the data layer."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def png() -> Callable[..., bytes]:
    """png(array) -> the bytes of that uint8 [h, w] or [h, w, 3] picture as a PNG; mode="1" makes it 1-bit."""

    def encode(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG", **options: object) -> bytes:
        image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
        buffer = io.BytesIO()
        (image.convert(mode) if mode else image).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode
