# ruff: noqa: E501  long lines of Markdown
"""The README's results, written from results/ and from nothing else.

python benchmarks/readme_results.py           print them
python benchmarks/readme_results.py --write   put them between the README's markers
"""

import json
import sys
from pathlib import Path
from typing import Any

from innerloop.studies import EXPERIMENTS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
START, END = "<!-- results -->\n", "<!-- /results -->"

PAPER = {
    ("omniglot", 5, 1, "maml"): "98.7 ± 0.4 (ci95; Finn et al. 2017)",
    ("omniglot", 20, 1, "maml"): "93.7 ± 0.7 (seed_std; Raghu et al. 2020)",
    ("omniglot", 20, 1, "anil"): "96.2 ± 0.5 (seed_std; Raghu et al. 2020)",
}


def short(commit: str | None) -> str:
    """The first letters of a commit, and whether files differed from it."""
    return "no commit" if commit is None else commit[:7] + ("+changes" if commit.endswith("+changes") else "")


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())


def accuracy_rows() -> list[str]:
    """One row an evaluation of a classification run."""
    rows = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "eval.json").exists():
            continue
        config, env, done = (read(folder / f"{f}.json") for f in ("config", "env", "finished"))
        if config["data"] == "sinusoid":
            continue
        for e in read(folder / "eval.json")["evaluations"]:
            statistics = e["settings"]["statistics"]
            if e["split"] != "test" or e["checkpoint"] != "best" or e["episodes"] < 600:
                continue
            steps = len(e["steps"]) - 1
            body = "" if e["method"] == config["method"] else f" on {config['method'].upper()}'s weights"
            key = (config["data"], config["way"], e["shot"], e["method"])
            paper = "" if body else PAPER.get(key, "")
            rows.append(
                f"| {config['data']} {config['way']}-way {e['shot']}-shot | {e['method'].upper()}{body} "
                f"| {100 * e['mean']:.2f} ± {100 * e['ci95']:.2f} | {steps} | {statistics} "
                f"| {done['steps']:,} × {config['outer']['meta_batch']}, {done['seconds'] / 60:.0f} min, seed "
                f"{config['seed']} | {paper} | [{folder.name}](results/{folder.name}), {short(env['commit'])} |"
            )
    return rows


def sinusoid_rows() -> list[str]:
    """Mean squared error after 1, 5, 10 steps."""
    rows = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "eval.json").exists() or read(folder / "config.json")["data"] != "sinusoid":
            continue
        env = read(folder / "env.json")
        for e in read(folder / "eval.json")["evaluations"]:
            if (
                e["split"] != "test"
                or e["checkpoint"] != "best"
                or e["method"] != read(folder / "config.json")["method"]
            ):
                continue
            s = e["steps"]
            shown = " | ".join(f"{s[i]['mean']:.3f} ± {s[i]['ci95']:.3f}" for i in (0, 1, 5, 10))
            paper = "0.67 / 0.38 / 0.35" if e["shot"] == 5 and e["method"] == "maml" else ""
            rows.append(
                f"| {e['method'].upper()}, {e['shot']} points | {shown} | {paper} "
                f"| [{folder.name}](results/{folder.name}), {short(env['commit'])} |"
            )
    return rows


PUBLISHED_RETURN = {("navigation", "maml"): "−20.3 ± 3.2", ("navigation", "anil"): "−20.1 ± 2.3"}


def policy_rows() -> list[str]:
    """Returns of the meta-trained policies after 0 to 3 inner steps."""
    rows = []
    for folder in sorted((RESULTS / "rl").glob("*/eval.json")):
        config = read(folder.parent / "config.json")
        for e in read(folder)["evaluations"]:
            if e["checkpoint"] != "best" or e["learner"] != "gradient" or e["adapt"]:
                continue
            shown = " | ".join(f"{s['mean']:.1f} ± {s['ci95']:.1f}".replace("-", "−") for s in e["steps"][:4])
            name = folder.parent.name
            rows.append(
                f"| {e['env']} | {e['method'].upper()} | {shown} | {PUBLISHED_RETURN.get((e['env'], e['method']), '')} "
                f"| {config['iterations']:,} | [{name}](results/rl/{name}), "
                f"{short(e['commit'])} |"
            )
    return rows


def study_lines() -> list[str]:
    """The answer of each published study."""
    lines = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "summary.json").exists():
            continue
        s = read(folder / "summary.json")
        m, data = s["methods"], s["data"]
        freeze = s["freezing"][-1]["difference"]
        cka = {r["block"]: r["mean"] for r in s["cka"]["maml"]}
        accuracy = ", ".join(
            f"{m[k]['title']} {100 * m[k]['mean']:.1f} ± {100 * m[k]['ci95']:.1f}"
            for k in ("maml", "anil", "nil", "untrained_nil", "pixels")
        )
        lines.append(
            f"- `{' '.join(s['command'])}` ({data['name']}, {data['way']}-way {data['shot']}-shot, {data['episodes']} test "
            f"episodes, seed {s['seed']}, {s['seconds'] / 60:.1f} min): **{s['verdict']['answer']}**. {accuracy} "
            f"(%, ci95). Freezing MAML's whole body at test: {100 * freeze['mean']:+.1f} ± {100 * freeze['ci95']:.1f} points "
            f"(ci95, paired). CKA before/after: lowest body block "
            f"{min(v for b, v in cka.items() if b != 'head'):.3f}, head {cka['head']:.3f}. ANIL's training step takes "
            f"1/{s['cost']['train_ratio']:.1f} and its inference 1/{s['cost']['inference_ratio']:.1f} of MAML's time. "
            f"[{folder.name}](results/{folder.name}/summary.json), {short(s['commit'])}"
        )
    return lines


def reproduction_lines() -> list[str]:
    """Each claim of the paper and what became of it, one column a data set."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    heads: dict[str, str] = {}
    for file in sorted(RESULTS.glob("reproduce/*/*/result.json")):
        r = read(file)
        where = file.parent.parent.name
        heads[where] = (
            f"{r['data']} {r['way']}-way {r['shot']}-shot, {r['outer_steps']:,} steps × {r['meta_batch']} tasks, "
            f"{len(r['seeds'])} seeds"
        )
        for c in r["claims"]:
            said = {True: "**holds**", False: "**does not hold**", None: "cannot be said"}[c["holds"]]
            link = f"results/reproduce/{where}/{r['name']}/table.md"
            found.setdefault((r["name"], c["text"]), {})[where] = f"{said}: {c['evidence']} ([table]({link}))"
    if not found:
        return []
    order = [e.name for e in EXPERIMENTS]
    lines = [f"| `reproduce` | claim | {' | '.join(heads.values())} |", "| --- " * (2 + len(heads)) + "|"]
    for (name, text), by in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        lines.append(f"| {name} | {text} | {' | '.join(by.get(w, '') for w in heads)} |")
    return lines


def section() -> str:
    """The whole section."""
    parts = []
    if rows := accuracy_rows():
        parts += [
            "Accuracy (%) on the test classes, `ci95` over 600 or more episodes of one trained model (one seed), 15 query images a class. “batch” "
            "statistics are transductive, “support” are not. Omniglot is the `vinyals` split, rotations as classes. These are short trainings on one CPU core; the published ones "
            "took 30,000 to 60,000 steps of 16 to 32 tasks, on other splits or protocols; ours are below them.",
            "",
            "How to read it: settings of the present rows were chosen on validation episodes and each was tested once. They go back to "
            "settings of the `-undistorted`, `-rate2` and `-mean` rows: the first two had been scored on the same test episodes while "
            "choosing; `-mean` reads the last block by its spatial mean instead of pixel by pixel. MAML and ANIL differ in inner loop "
            "and length at 5 ways (one step at rate 0.5, 12,000 outer steps; twenty head steps at 0.1, 7,000), so that this table is "
            "no comparison of the two; `reproduce table2` below is. Times are of a machine with other work on it. Each folder's "
            "config has everything.",
            "",
            "| task | method | accuracy ± ci95 | inner steps | statistics | training (steps × tasks, time) | published | from |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    if rows := sinusoid_rows():
        parts += [
            "Sinusoids, mean squared error ± ci95 over 600 or more tasks, before and after 1, 5, 10 inner steps; published (5 points, "
            "after 1 / 5 / 10): Finn et al. 2017.",
            "",
            "| method, support | 0 | 1 | 5 | 10 | published | from |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    if rows := policy_rows():
        parts += [
            "Meta-RL, return ± ci95 over the held-out tasks (one seed) before and after 1, 2, 3 inner steps; published: after one "
            "step, ± over seeds, Raghu et al. 2020. Their half-cheetahs have not been trained here yet.",
            "",
            "| environment | method | 0 | 1 | 2 | 3 | published | meta-iterations | from |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    if lines := reproduction_lines():
        parts += [
            "The paper's claims, tested by `innerloop reproduce all --data DATA --budget cpu`: what each is tested as, its tolerance, "
            "`seed_std` and `ci95`, and the paper's own numbers are in the tables. These trainings are short, the paper's are 30,000 steps.",
            "",
            *lines,
            "",
        ]
    if lines := study_lines():
        parts += ["Studies (every number is in the summary it points to):", "", *lines, ""]
    return "\n".join(parts)


def main() -> None:
    """Print, or write into the README."""
    if "--write" not in sys.argv:
        print(section())
        return
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(START)
    _, after = rest.split(END)
    readme.write_text(f"{before}{START}\n{section()}\n{END}{after}")


if __name__ == "__main__":
    main()
