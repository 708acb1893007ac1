"""Made images; also prepares the check of signatures for the modules imported after it."""

from tiny import made_images  # noqa: F401
