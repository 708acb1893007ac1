"""`innerloop doctor`: what this installation has, and what it would need."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.data.catalogue import DATASETS
from innerloop.data.paths import DataMissing, cache_root, data_root
from innerloop.models.kernel import kernel_status
from innerloop.runs import environment

HELP = Help(
    "Show what this installation has: versions, processor, compiled kernel, data sets, extras. Include its output when "
    "you report a problem.",
    (
        "innerloop doctor",
        "innerloop doctor --data-dir ~/archives    # look for data sets there",
    ),
)

FOR_DEVELOPERS = {"dev", "docs", "mutants", "bench"}
"""extras that no command needs"""


@dataclass(frozen=True)
class DoctorArgs:
    """Options of `innerloop doctor`."""

    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""


def run(args: Sequence[str]) -> int:
    """Print the table."""
    asked = options.parse(DoctorArgs, args, "doctor", text=HELP)
    show.table("innerloop doctor", ("", "found"), found(asked.data_dir), words=True)
    return 0


def found(data_dir: Path | None) -> list[tuple[str, str]]:
    """What is here, by name."""
    env = environment()
    kernel = kernel_status()
    root, here = data_root(data_dir), []
    for data in DATASETS:
        try:
            data.locate(data, root)
            here.append(data.name)
        except DataMissing:
            pass
    lines = [
        ("innerloop", f"{env['innerloop']}, commit {env['commit'] or 'not known'}"),
        ("Python, PyTorch", f"{env['python']}, {env['torch']}"),
        ("system", env["platform"]),
        ("processor", f"{env['processor']}, {env['cpus']} cores, {env['threads']} threads in use"),
        ("GPU", env["gpu"] or "none that PyTorch can use"),
        ("compiled kernel", f"{kernel.state}: {kernel.reason}" if kernel.reason else kernel.state),
        ("data folder", f"{root}{'' if root.is_dir() else ' (does not exist yet)'}"),
        ("data sets here", ", ".join(here) or "none"),
        ("cache folder", str(cache_root())),
    ]
    return [*lines, *((f"extra {name}", state) for name, state in extras())]


def extras() -> list[tuple[str, str]]:
    """The extras of the installed package, by its metadata, and whether each is here."""
    try:
        needs = metadata.requires("innerloop") or []
    except metadata.PackageNotFoundError:  # run from its source
        return []
    packages: dict[str, set[str]] = {}
    for line in needs:
        if found := re.match(r"([\w.-]+).*;.*\bextra == ['\"]([\w-]+)['\"]", line):
            packages.setdefault(found[2], set()).add(found[1])
    have = {str(d.metadata["Name"]).lower().replace("_", "-") for d in metadata.distributions()}
    lines = []
    for name, of in packages.items():
        lacking = sorted(p for p in of if p.lower().replace("_", "-") not in have)
        if name not in FOR_DEVELOPERS:
            how = f"lacks {', '.join(lacking)}: pip install 'innerloop[{name}]'"
            lines.append((name, how if lacking else "installed"))
    return lines
