# ruff: noqa: E501  long lines of Markdown
"""results/table.json, the README's table and docs/results.md, written from the runs under results/ and nothing else.

python benchmarks/readme_results.py           print them
python benchmarks/readme_results.py --write   put them between the README's markers, and into docs/results.md
"""

import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from innerloop.core.statistics import paired_difference
from innerloop.report.drawing import png, style
from innerloop.report.figures import draw_dial
from innerloop.rl.catalogue import find
from innerloop.rl.config import Config as PolicyConfig
from innerloop.runs import RunFolder
from innerloop.studies import TABLES
from innerloop.studies import published as numbers

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
START, END = "<!-- results -->\n", "<!-- /results -->"
EARLIER = ("-mean", "-undistorted", "-rate2", "-9000", "-stride")
"""ends of the names of runs with earlier settings"""

SOURCES = {
    ("maml", 5): "ci95; Finn et al. 2017",
    ("maml", 20): "seed_std; Raghu et al. 2020",
    ("anil", 20): "seed_std; Raghu et al. 2020",
    ("proto", 20): "Snell et al. 2017",
}
"""of published accuracies, by method and way"""


def short(commit: str | None) -> str:
    """The first letters of a commit, and whether files differed from it."""
    return "no commit" if commit is None else commit[:7] + ("+changes" if commit.endswith("+changes") else "")


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text())


def accuracies() -> list[dict[str, Any]]:
    """One entry an evaluation of a classification run on test classes, by its best checkpoint."""
    rows = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "eval.json").exists():
            continue
        config, env, done = (read(folder / f"{f}.json") for f in ("config", "env", "finished"))
        if config["data"] == "sinusoid":
            continue
        split = f" ({config['split_scheme']})" if config["split_scheme"] not in ("", "vinyals") else ""
        data = config["data"] + split
        for e in RunFolder(folder).evaluations:
            if e["split"] != "test" or e["checkpoint"] != "best" or e["episodes"] < 600 or e.get("augment_support"):
                continue
            tested = e.get("data", config["data"])
            where = data if tested == config["data"] else f"{data} → {tested}"
            own = e["method"] == config["method"]
            rows.append(
                {
                    "task": f"{where} {config['way']}-way {e['shot']}-shot",
                    "data": where,
                    "way": config["way"],
                    "shot": e["shot"],
                    "method": e["method"],
                    "weights": config["method"],
                    "accuracy": e["mean"],
                    "ci95": e["ci95"],
                    "episodes": e["episodes"],
                    "seeds": [config["seed"]],
                    "seed_std": None,
                    "outer_steps": done["steps"],
                    "meta_batch": config["outer"]["meta_batch"],
                    "minutes": round(done["seconds"] / 60, 1),
                    "inner_steps": len(e["steps"]) - 1,
                    "statistics": e["settings"]["statistics"],
                    "head_scale": config["model"].get("head_scale", 1.0),
                    "published": published(e["method"], where, config["way"], e["shot"]) if own else "",
                    "command": portable(env["command"]),
                    "commit": env["commit"],
                    "folder": f"results/{folder.name}",
                    "earlier_settings": folder.name.endswith(EARLIER),
                }
            )
    return rows


def published(method: str, data: str, way: int, shot: int) -> str:
    """The published accuracy (%) and where it is from."""
    if data.endswith("within"):
        return "92.0 (Koch et al. 2015: 105×105 pixels, a larger net)" if method == "siamese" else ""
    found = numbers.published(method, data, way, shot)
    return f"{found} ({SOURCES[method, way]})" if found and (method, way) in SOURCES else found


def portable(command: list[str]) -> str:
    """The command without the folder that it wrote to."""
    at = command.index("--out") if "--out" in command else len(command)
    return " ".join(command[:at] + command[at + 2 :])


def accuracy_rows(*, earlier: bool) -> list[str]:
    """The accuracies as lines of a table: of the present settings, or of earlier ones."""
    rows = []
    for r in accuracies():
        if r["earlier_settings"] != earlier:
            continue
        body = "" if r["method"] == r["weights"] else f" on {r['weights'].upper()}'s weights"
        rows.append(
            f"| {r['task']} | {r['method'].upper()}{body} | {100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f} "
            f"| {r['inner_steps']} | {r['statistics']} | {r['outer_steps']:,} × {r['meta_batch']}, "
            f"{r['minutes']:.0f} min, seed {r['seeds'][0]} | {r['published']} "
            f"| [{Path(r['folder']).name}]({r['folder']}), {short(r['commit'])} |"
        )
    return rows


def augmented_rows() -> list[str]:
    """Accuracy with an augmented support set, and the paired difference to the plain one on the same episodes."""
    rows = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "eval.json").exists():
            continue
        config = read(folder / "config.json")
        found = RunFolder(folder).evaluations
        for e in found:
            if not e.get("augment_support"):
                continue
            same = ("method", "checkpoint", "step", "split", "shot", "query", "settings")
            (plain,) = (p for p in found if not p.get("augment_support") and all(p[k] == e[k] for k in same))
            gap = paired_difference(torch.tensor(e["per_episode"]), torch.tensor(plain["per_episode"]))
            by, copies = e["augment_support"].rsplit(" × ", 1)
            by = by if by in ("affine", "elastic", "crop", "flip") else "DAGAN"
            body = "" if e["method"] == config["method"] else f" on {config['method'].upper()}'s weights"
            rows.append(
                f"| {config['data']} {config['way']}-way {e['shot']}-shot | {e['method'].upper()}{body} | {copies} by {by} "
                f"| {100 * plain['mean']:.2f} ± {100 * plain['ci95']:.2f} | {100 * e['mean']:.2f} ± {100 * e['ci95']:.2f} "
                f"| {100 * gap.mean:+.2f} ± {100 * gap.ci95:.2f} | [{folder.name}](results/{folder.name}), {short(e['commit'])} |"
            )
    return rows


def augmented_lines() -> list[str]:
    """The table of augmented support sets."""
    if not (rows := augmented_rows()):
        return []
    return [
        "New images beside each support image, at test time only (`innerloop evaluate RUN --augment-support`): accuracy (%) ± ci95 over test episodes without and with them, and the "
        "difference on the same episodes ± its ci95. The DAGAN: [results/dagan-omniglot](results/dagan-omniglot) (its samples: `generated.png`), trained on the same training "
        "classes; affine copies are the honest baseline.",
        "",
        "| task | method | new images | without | with | difference | from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def sinusoid_rows() -> list[str]:
    """Mean squared error after 1, 5, 10 steps."""
    rows = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "eval.json").exists() or read(folder / "config.json")["data"] != "sinusoid":
            continue
        env = read(folder / "env.json")
        for e in RunFolder(folder).evaluations:
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


def caltech_rows() -> list[str]:
    """Accuracy on Caltech-101 of the pre-trained body, without training."""
    file = RESULTS / "caltech101-pretrained.json"
    if not file.exists():
        return []
    found = read(file)
    by: dict[str, dict[int, str]] = {}
    for r in found["results"]:
        by.setdefault(r["method"], {})[r["shot"]] = f"{100 * r['accuracy']:.1f} ± {100 * r['ci95']:.1f}"
    shots = sorted({shot for cells in by.values() for shot in cells})
    return [
        f"| method | {' | '.join(f'{s}-shot' for s in shots)} |",
        "| --- " * (1 + len(shots)) + "|",
        *(f"| {name} | {' | '.join(cells.get(s, '') for s in shots)} |" for name, cells in by.items()),
    ]


def families_lines() -> list[str]:
    """Accuracy of every method, a column a setting, with the figure of the first."""
    made = {f.parent.parent.name: read(f) for f in sorted(RESULTS.glob("reproduce/*/families/result.json"))}
    if not made:
        return []
    columns = {
        w: f"{r['data']} {r['way']}-way {r['shot']}-shot, {r['outer_steps']:,} steps, seeds {', '.join(map(str, r['seeds']))} ([table](results/reproduce/{w}/families/table.md))"
        for w, r in made.items()
    }
    cells: dict[str, dict[str, str]] = {}
    for where, r in made.items():
        for row in r["rows"]:
            spread = "" if row["ci95"] is None else f" ± {100 * row['ci95']:.1f}"
            cells.setdefault(row["label"], {})[where] = f"{100 * row['mean']:.1f}{spread}"
    lines = [f"| method | {' | '.join(columns.values())} |", "| --- " * (1 + len(columns)) + "|"]
    lines += [f"| {label} | {' | '.join(by.get(w, '') for w in columns)} |" for label, by in cells.items()]
    first = next(iter(made))
    return [*lines, "", f"![accuracy against the time of adaptation](results/reproduce/{first}/families/figure.png)"]


def shift_lines() -> list[str]:
    """What each method loses on data that it was not trained on."""
    lines = []
    for file in sorted(RESULTS.glob("reproduce/*/shift/result.json")):
        r = read(file)
        where = file.parent.relative_to(ROOT)
        by: dict[str, dict[str, str]] = {}
        for row in r["rows"]:
            name, target = row["label"].split(" → ")
            m = row["measured"]
            drop = f"{m['drop (points)']:.1f} ± {m['drop ci95']:.1f}"
            by.setdefault(target, {})[name] = f"{100 * row['mean']:.1f} ± {100 * row['ci95']:.1f} (drop {drop})"
        methods = list(dict.fromkeys(name for cells in by.values() for name in cells))
        lines += [
            f"{r['data']} {r['way']}-way {r['shot']}-shot, {r['outer_steps']:,} steps, seeds {', '.join(map(str, r['seeds']))} ([table]({where}/table.md), {short(r['commit'])}):",
            "",
            f"| method | {' | '.join(f'→ {target}' for target in by)} |",
            "| --- " * (1 + len(by)) + "|",
            *(f"| {name} | {' | '.join(cells.get(name, '') for cells in by.values())} |" for name in methods),
            "",
        ]
    return lines


def returns() -> list[dict[str, Any]]:
    """One entry a meta-trained policy: its return after each number of inner steps."""
    rows = []
    for file in sorted(RESULTS.glob("reproduce/rl-*/table2-rl/result.json")):
        r = read(file)
        policies: dict[str, list[dict[str, Any]]] = {}
        for row in r["rows"]:
            policies.setdefault(row["label"].rsplit(", ", 1)[0], []).append(row)
        for label, found in policies.items():
            title, method = label.split(", ", 1)
            settings = PolicyConfig.from_json(next(c for name, c in r["config"].items() if find(name).title == title))
            rows.append(
                {
                    "task": title,
                    "method": method.lower(),
                    "returns": [{k: row[k] for k in ("mean", "ci95", "seed_std")} for row in found],
                    "seeds": r["seeds"],
                    "iterations": settings.iterations,
                    "meta_batch": settings.meta_batch,
                    "horizon": settings.horizon,
                    "published": next((row["paper"] for row in found if row["paper"]), ""),
                    "command": portable(r["command"]),
                    "commit": r["commit"],
                    "folder": str(file.parent.relative_to(ROOT)),
                }
            )
    return rows


def policy_rows() -> list[str]:
    """Returns of the meta-trained policies, a row a method, a column a number of inner steps."""
    rows = []
    for r in returns():
        cells = [
            f"{v['mean']:.1f} ± {v['ci95']:.1f}" + ("" if v["seed_std"] is None else f" ({v['seed_std']:.1f})")
            for v in r["returns"]
        ]
        shown = " | ".join([*cells, r["published"]]).replace("-", "−")
        trained = f"{r['iterations']} × {r['meta_batch']}, {r['horizon']}, {len(r['seeds'])}"
        rows.append(
            f"| {r['task']}, {r['method'].upper()} | {shown} | {trained} "
            f"| [table]({r['folder']}/table.md), {short(r['commit'])} |"
        )
    return rows


def headline() -> list[str]:
    """The paper's results beside ours, in one small table."""
    found = [r for r in accuracies() if not r["earlier_settings"] and r["statistics"] == "batch"]
    lines = ["| task | published: MAML, ANIL | MAML | ANIL | no inner loop (NIL) |", "| --- " * 5 + "|"]

    def accuracy(data: str, way: int, shot: int, method: str, weights: str) -> str:
        same = {"data": data, "way": way, "shot": shot, "method": method, "weights": weights}
        mine = [r for r in found if all(r[k] == v for k, v in same.items())]
        if len(mine) > 1:
            raise ValueError(f"README's table has room for one of {[r['folder'] for r in mine]}: {same}")
        return f"{100 * mine[0]['accuracy']:.1f} ± {100 * mine[0]['ci95']:.1f}" if mine else ""

    for data, way, shot in dict.fromkeys((r["data"], r["way"], r["shot"]) for r in found):
        own = [accuracy(data, way, shot, m, m) for m in ("maml", "anil")]
        if not any(own):
            continue
        printed = ", ".join(numbers.published(m, data, way, shot) or "–" for m in ("maml", "anil"))
        nil = ", ".join(
            f"{s} ({w.upper()}'s body)" for w in ("maml", "anil") if (s := accuracy(data, way, shot, "nil", w))
        )
        name = data.replace("omniglot", "Omniglot").replace("cifar_fs", "CIFAR-FS")
        lines.append(f"| {name} {way}-way {shot}-shot, % | {printed} | {own[0] or '–'} | {own[1] or '–'} | {nil} |")
    by: dict[str, dict[str, dict[str, Any]]] = {}
    for r in returns():
        by.setdefault(r["task"], {})[r["method"]] = r
    for task, methods in by.items():
        printed = ", ".join(methods[m]["published"] for m in ("maml", "anil"))
        cells = [
            f"{methods[m]['returns'][-1]['mean']:.1f} ± {methods[m]['returns'][-1]['ci95']:.1f}"
            for m in ("maml", "anil")
        ]
        shown = " | ".join([printed, *cells]).replace("-", "−")
        lines.append(f"| {task}, return | {shown} | |")
    return lines


def policy_trainings() -> list[str]:
    """What the trainings of policies under results/rl took."""
    lines = []
    for folder in sorted((RESULTS / "rl").glob("*")):
        config, env, done = (read(folder / f"{f}.json") for f in ("config", "env", "finished"))
        run = PolicyConfig.from_json(config)
        lines.append(
            f"{run.env} {run.method.upper()}{' by PPO' if run.outer == 'ppo' else ''} "
            f"{done['seconds'] / 60:.1f} min ({done['steps']:,} meta-iterations, "
            f"{env['threads']} thread{'s' if env['threads'] > 1 else ''}; [{folder.name}](results/rl/{folder.name}), {short(env['commit'])})"
        )
    return lines


def sampling_rows() -> list[str]:
    """Environment steps per second, and the seconds of a meta-iteration."""
    file = RESULTS / "rl_sampling.json"
    if not file.exists():
        return []
    rows = []
    for r in read(file)["rows"]:
        rate = r["steps_per_second"]
        cells = [f"{rate['innerloop']:,.0f}"]
        for peer, times in r["times_faster"].items():
            cells.append(f"{rate[peer]:,.0f}: {median(times):.1f} ({min(times):.1f}–{max(times):.1f})")
        for method in ("maml", "anil"):
            s = r["seconds"][method]
            cells.append(" + ".join(f"{s[part]:.2f}" for part in ("sampling", "inner", "outer")))
        rows.append(f"| {r['env']} | {' | '.join(cells)} |")
    return rows


def sampling_lines() -> list[str]:
    """The table of sampling."""
    if not (rows := sampling_rows()):
        return []
    found = read(RESULTS / "rl_sampling.json")
    settings, env = found["settings"], found["environment"]
    peers = list(found["rows"][0]["times_faster"])
    return [
        f"Sampling: environment steps a second of the batched environments ({settings['tasks']} tasks × {settings['rollouts']} trajectories) and of Gymnasium's vector environments of the same "
        f"tasks and policy, one call of the policy a step for as many environments as the brackets say; how many times faster is the median of {settings['rounds']} interleaved rounds (least–most). Then the seconds of a meta-iteration of the preset, in its parts: "
        f"sampling + inner step + outer step. {env['processor']}, {settings['threads']} threads of {env['cpus']} cores, torch {env['torch']}, `python benchmarks/rl_sampling.py` "
        f"([rl_sampling.json](results/rl_sampling.json), {short(env['commit'])}).",
        "",
        f"| environment | innerloop | {' | '.join(f'{p}: times faster' for p in peers)} | MAML, s | ANIL, s |",
        "| --- " * (4 + len(peers)) + "|",
        *rows,
        "",
    ]


def policy_claims() -> list[str]:
    """Each claim about policies and what became of it."""
    lines = []
    for file in sorted(RESULTS.glob("reproduce/rl-*/*/result.json")):
        r = read(file)
        for c in r["claims"]:
            said = {True: "**holds**", False: "**does not hold**", None: "inconclusive"}[c["holds"]]
            where = f"../{file.parent.relative_to(ROOT)}/table.md"
            lines.append(f"| {r['name']} | {c['text']} | {said}: {c['evidence']} ([table]({where})) |")
    return lines


def study_lines() -> list[str]:
    """The answer of each published study."""
    lines = []
    for folder in sorted(RESULTS.iterdir()):
        if not (folder / "summary.json").exists():
            continue
        s = read(folder / "summary.json")
        m, data = s["methods"], s["data"]
        cka = {r["block"]: r["mean"] for r in s["cka"]["maml"]}
        accuracy = ", ".join(
            f"{m[k]['title']} {100 * m[k]['mean']:.1f} ± {100 * m[k]['ci95']:.1f}"
            for k in ("maml", "maml_small", "anil", "nil", "untrained_nil", "pixels")
        )
        starts = " and ".join(
            f"{100 * d['frozen']['difference']['mean']:+.1f} ± {100 * d['frozen']['difference']['ci95']:.1f} points with the "
            f"head's first weights × {d['head_scale']:g}"
            for d in s["dial"]
        )
        lines.append(
            f"- `{' '.join(s['command'])}` ({data['name']}, {data['way']}-way {data['shot']}-shot, {data['episodes']} test "
            f"episodes, seed {s['seed']}, {s['seconds'] / 60:.1f} min): **{s['verdict']['answer']}**. {accuracy} "
            f"(%, ci95). Freezing MAML's whole body at test time: {starts} (ci95, paired). CKA, ordinary head, "
            f"before/after: lowest body block "
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
        if r["name"] in ("families", "shift") or "settings" in r:
            continue
        heads[where] = (
            f"{r['data']} {r['way']}-way {r['shot']}-shot, {r['outer_steps']:,} steps × {r['meta_batch']} tasks, "
            f"{len(r['seeds'])} seeds"
        )
        for c in r["claims"]:
            said = {True: "**holds**", False: "**does not hold**", None: "inconclusive"}[c["holds"]]
            link = f"../results/reproduce/{where}/{r['name']}/table.md"
            found.setdefault((r["name"], c["text"]), {})[where] = f"{said}: {c['evidence']} ([table]({link}))"
    if not found:
        return []
    order = [t.name for t in TABLES]
    lines = [f"| `reproduce` | claim | {' | '.join(heads.values())} |", "| --- " * (2 + len(heads)) + "|"]
    for (name, text), by in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        lines.append(f"| {name} | {text} | {' | '.join(by.get(w, '') for w in heads)} |")
    return lines


PAPER_DATA = {"table2": ("mini_imagenet", "omniglot"), "table4": ("mini_imagenet", "omniglot"), "permutations": ()}
"""where the paper shows the claims of a table, for results that do not say it; of the other tables mini-ImageNet alone"""


def claims_sentence() -> str:
    """How many claims hold on each data set, and of how many the paper shows them there."""
    held: dict[str, list[tuple[bool | None, bool]]] = {}
    for file in sorted(RESULTS.glob("reproduce/*/*/result.json")):
        r = read(file)
        if r["name"] not in ("families", "shift") and "settings" not in r:
            there = PAPER_DATA.get(r["name"], ("mini_imagenet",))
            found = [(c["holds"], r["data"] in c.get("paper_data", there)) for c in r["claims"]]
            held.setdefault(f"{r['data']} {r['way']}-way {r['shot']}-shot", []).extend(found)

    def count(found: list[bool | None]) -> str:
        return f"{found.count(True)} hold, {found.count(False)} do not, {found.count(None)} inconclusive"

    lines = []
    for name, found in held.items():
        own = [holds for holds, mine in found if mine]
        here = f"{len(own)} of {len(found)} the paper shows on this data" + (f" ({count(own)})" if own else "")
        lines.append(f"{name}: {here}, the others elsewhere ({count([holds for holds, mine in found if not mine])})")
    return "; ".join(lines)


TABLE = [
    "| task | method | accuracy ± ci95 | inner steps | statistics | training (steps × tasks, time) | published | from |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
]


def section() -> str:
    """The README's section."""
    return "\n".join(
        [
            *headline(),
            "",
            "Accuracy is on test classes, ± `ci95` over 600 episodes of one model (one seed); return is the mean over 1 to 3 seeds after three inner steps, ± `ci95` over "
            "the tasks of one policy; published: `ci95` at 5 ways, else `seed_std`. "
            "Batch norm is transductive, as in the paper. Our trainings are much shorter than the published ones, each on one CPU core, and MAML and ANIL were "
            "trained for different lengths: do not compare them by this table (`innerloop reproduce table2` does that). Policies are at horizon 100 or 200: compare "
            "trends, not levels. Each row with its command, commit and folder: [results/table.json](results/table.json); all results, the paper's claims and what fell "
            "short: [docs/results.md](docs/results.md).",
        ]
    )


def page() -> str:
    """docs/results.md."""
    parts = [
        "# Results",
        "",
        "Written by `python benchmarks/readme_results.py --write` from the files under `results/`.",
        "",
        "## Accuracy",
        "",
        "Settings of the first table were chosen on validation episodes and each was tested once. They go back to those of the second: "
        "the `-undistorted` and `-rate2` runs had been scored on the same test episodes while choosing, and `-stride` at 30 and at 100 inner steps before the 20-way ANIL took 100; `-mean` reads the last block by its spatial mean "
        "instead of pixel by pixel; `-9000` and `-stride` halve the image by a stride of 2 instead of max-pooling. MAML and ANIL differ in inner loop and length at 5 ways (one step at rate 0.5, 12,000 outer steps; twenty head "
        "steps at 0.1, 7,000). Times are of a machine with other work on it. Each folder's config has everything.",
        "",
        *TABLE,
        *accuracy_rows(earlier=False),
        "",
        "Earlier settings:",
        "",
        *TABLE,
        *accuracy_rows(earlier=True),
        "",
        "## Sinusoids",
        "",
        "Mean squared error ± ci95 over 600 or more tasks, before and after 1, 5, 10 inner steps; published (5 points, after 1 / 5 / 10): Finn et al. 2017.",
        "",
        "| method, support | 0 | 1 | 5 | 10 | published | from |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *sinusoid_rows(),
        "",
        "## The paper's claims",
        "",
        "Tested by `innerloop reproduce all --data DATA --budget cpu`: what each is tested as, its tolerance, `seed_std` and `ci95`, and the paper's own numbers are "
        "in the tables. These trainings are short, the paper's are 30,000 steps.",
        "",
        *reproduction_lines(),
        "",
        *([f"In short: {said}.", ""] if (said := claims_sentence()) else []),
        "## Studies",
        "",
        *study_lines(),
        "",
        "## Policies",
        "",
        "Return on held-out tasks after 0 to 3 inner steps: mean over seeds ± ci95 over tasks (seed_std). Published: after adaptation, ± over seeds, Raghu et al. 2020, who "
        "print neither meta-iterations nor horizon: compare the pattern, not the level.",
        "",
        "| environment, method | 0 steps | 1 step | 2 steps | 3 steps | published | meta-iterations × tasks, horizon, seeds | from |",
        "| --- " * 8 + "|",
        *policy_rows(),
        "",
        f"The runs under [results/rl](results/rl) trained in: {'; '.join(policy_trainings())}.",
        "",
        "`innerloop reproduce table2-rl`, `rl-features` and `rl-baselines`, budget `cpu`; iterations, seeds and commands are in the tables.",
        "",
        "| `reproduce` | claim | outcome |",
        "| --- | --- | --- |",
        *policy_claims(),
        "",
        *sampling_lines(),
        "## Your own images",
        "",
        "The pre-trained body of `innerloop classify` on 5-way tasks of 30 Caltech-101 classes, with no training at all (accuracy in %, `ci95` over 600 episodes; "
        "the features were chosen on 30 other classes, but these had been looked at once before: [estimator.md](estimator.md)):",
        "",
        *caltech_rows(),
        "",
        "## Every family",
        "",
        "Every family on the same body, outer steps and test episodes, with no tuning of single methods (`innerloop reproduce families`; accuracy in %, `ci95` over test episodes):",
        "",
        *families_lines(),
        "",
        *(["## Data augmentation", "", *lines] if (lines := augmented_lines()) else []),
        "## Domain shift",
        "",
        "`innerloop reproduce shift`: accuracy (%) on classes of another data set, ± ci95 over episodes of one model a seed, and the drop from in-domain ± its ci95. "
        "A target may be harder for any model: compare drops between methods. What is left out as known, and paired differences, are in the table.",
        "",
        *shift_lines(),
    ]
    text = "\n".join(parts).replace("](results/", "](../results/") + "\n"
    return re.sub(r"\bat test (?=costs|with)", "at test time ", text)  # in claims of earlier results


def table() -> dict[str, Any]:
    """results/table.json."""
    return {
        "about": "Written by `python benchmarks/readme_results.py --write` from the folders that it names. accuracy: 0 to 1 on test classes; ci95: over the test "
        "episodes or tasks of one model; seed_std: over seeds.",
        "accuracy": accuracies(),
        "return": returns(),
    }


def main() -> None:
    """Print, or write results/table.json, the README's table and picture, and docs/results.md."""
    if "--write" not in sys.argv:
        print(section())
        print(page())
        return
    (RESULTS / "table.json").write_text(json.dumps(table(), indent=1, ensure_ascii=False) + "\n")
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(START)
    _, after = rest.split(END)
    readme.write_text(f"{before}{START}\n{section()}\n{END}{after}")
    (ROOT / "docs" / "results.md").write_text(page())
    with style("study"):
        picture = png(draw_dial(read(RESULTS / "study-quick-glyphs" / "summary.json")))
    (ROOT / "docs" / "images" / "study.png").write_bytes(picture)


if __name__ == "__main__":
    main()
