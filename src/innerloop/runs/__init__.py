"""Run folders: a result is an artefact."""

from innerloop.runs.environment import environment, made_with
from innerloop.runs.files import append_line, read_json, write_json
from innerloop.runs.folder import RunError, RunFolder

__all__ = ["RunError", "RunFolder", "append_line", "environment", "made_with", "read_json", "write_json"]
