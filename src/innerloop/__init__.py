"""innerloop: few-shot meta-learning, and the study of why it works."""

__version__ = "0.1.0"
