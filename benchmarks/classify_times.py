"""How long the classifier for pictures takes on one thread: from nothing to 200 sorted pictures, and a served request.

    python benchmarks/classify_times.py --out results/caltech101-times.json

5 classes of Caltech-101 (of the 61st and later in the order of caltech_pretrained.py), 5 examples and 40 other pictures
of each, an empty cache. Wall time is on a machine that may do other things; CPU time is the process's own.
"""

import argparse
import csv
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from caltech_pretrained import in_order

from innerloop.runs import environment, write_json

PORT = 8765
REQUESTS = 60
COMMAND = [sys.executable, "-m", "innerloop"]


def cpu_of(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(content: bytes) -> None:
    """One request for a prediction."""
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/api/guess", body, head)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def sorted_cold(folder: Path, everything: dict[str, list[bytes]], classes: list[str]) -> dict[str, float]:
    """The whole command, in a new process with an empty cache."""
    for name in classes:
        (folder / "support" / name).mkdir(parents=True)
        for i, content in enumerate(everything[name][:45]):
            place = folder / "support" / name / f"{i}.jpg" if i < 5 else folder / "photos" / f"{name}-{i}.jpg"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    given = ["--support", "support", "--images", "photos", "--save", "model.innerloop", "--threads", "1"]
    subprocess.run([*COMMAND, "classify", *given], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with (folder / "classified" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [Path(r["file"]).name.startswith(r["guess"]) for r in rows]
    return {"wall s": round(wall, 1), "CPU s": round(cpu, 1), "pictures": len(rows), "right": sum(right)}


def served(folder: Path) -> dict[str, float]:
    """From the start of the server to its first answer, and the median of further requests."""
    photos = [p.read_bytes() for p in sorted((folder / "photos").iterdir())[:: 200 // REQUESTS][:REQUESTS]]
    began = time.perf_counter()
    command = [*COMMAND, "serve", "model.innerloop", "--port", str(PORT), "--threads", "1"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                ask(photos[0])
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.05)
        first, cpu = time.perf_counter() - began, cpu_of(server.pid)
        wall = []
        for content in photos:
            at = time.perf_counter()
            ask(content)
            wall.append(1000 * (time.perf_counter() - at))
        each = 1000 * (cpu_of(server.pid) - cpu) / len(photos)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    return {
        "first answer wall s": round(first, 1),
        "first answer CPU s": round(cpu, 1),
        "requests": len(wall),
        "wall ms, median": round(statistics.median(wall), 1),
        "CPU ms, mean": round(each, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    everything = in_order(0)
    classes = [n for n in list(everything)[60:] if len(everything[n]) >= 45][:5]
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        os.environ |= {"INNERLOOP_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        found = {
            "classes": classes,
            "classify, cold": sorted_cold(folder, everything, classes),
            "serve": served(folder),
        }
    print(found)
    write_json(given.out, found | {"load": [round(v, 1) for v in os.getloadavg()], "environment": environment()})


if __name__ == "__main__":
    main()
