"""Copy what a published number needs from a run folder into results/, without checkpoints.

python benchmarks/collect.py RUN NAME     →  results/NAME/{config,env,eval,finished}.json, metrics.jsonl
python benchmarks/collect.py STUDY NAME   →  results/NAME/summary.json
python benchmarks/collect.py OUT/DATA-… reproduce/DATA-…   →  results/reproduce/DATA-…/NAME/{result.json,table.*,…}
"""

import json
import shutil
import sys
from pathlib import Path

FILES = (
    *("config.json", "env.json", "eval.json", "finished.json", "metrics.jsonl", "summary.json"),
    *("generated.json", "generated.png"),  # of a DAGAN
)

REPRODUCTION = ("result.json", "table.md", "table.csv", "figure.png", "figure.svg")


def collect(run: Path, name: str) -> Path:
    """Copy the small files of `run` to results/`name`; without them there is nothing to publish."""
    to = Path(__file__).parents[1] / "results" / name
    if made := sorted(run.glob("*/result.json")):
        for result in made:
            part = to / result.parent.name
            part.mkdir(parents=True, exist_ok=True)
            for file in REPRODUCTION:
                shutil.copyfile(result.parent / file, part / file)
            if str(json.loads(result.read_text())["commit"]).endswith("+changes"):
                print(f"warning: {result} was made with uncommitted changes", file=sys.stderr)
        return to
    if not (run / "summary.json").exists() and not (run / "finished.json").exists():
        raise SystemExit(f"{run} is no finished run or study")
    to.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (run / file).exists():
            shutil.copyfile(run / file, to / file)
    made = to / ("env.json" if (to / "env.json").exists() else "summary.json")
    env = json.loads(made.read_text())
    if str(env.get("commit", "")).endswith("+changes"):
        print(f"warning: {run} was made with uncommitted changes", file=sys.stderr)
    return to


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(collect(Path(sys.argv[1]), sys.argv[2]))
