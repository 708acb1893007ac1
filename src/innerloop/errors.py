"""The error that a user can meet."""


class InnerloopError(ValueError):
    """Something asked for cannot be done. The message says what was given, what exists and what to do.

    The command line prints it in one sentence. Any other `ValueError` is a bug of ours and keeps its traceback.
    """
