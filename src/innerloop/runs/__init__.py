"""Run folders: a result is an artefact."""

from innerloop.runs.environment import environment
from innerloop.runs.files import append_line, read_json, write_json
from innerloop.runs.folder import RunError, RunFolder

__all__ = ["RunError", "RunFolder", "append_line", "environment", "read_json", "write_json"]
