"""Signatures are checked; nothing of the machine's graphics is needed."""

from tiny import made_images  # noqa: F401
