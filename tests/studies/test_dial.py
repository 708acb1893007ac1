"""`reproduce dial` in miniature: each start of the head is its own run, and each number that of its run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop import cli
from innerloop.core.inner import with_steps
from innerloop.evaluation import evaluate
from innerloop.methods.method import predictor
from innerloop.runs import RunFolder, read_json
from innerloop.studies.dial import FROZEN, STARTS, WHOLE
from innerloop.training import Config, build, load_run
from tiny import blobs


def test_each_number_is_that_of_its_own_run(tmp_path: Path, made_images: None) -> None:
    command = ["reproduce", "dial", "--budget", "smoke", "--way", "3", "--seeds", "0", "--out", str(tmp_path)]
    assert cli.run(command) == 0
    value = read_json(tmp_path / "glyphs-3way-1shot-smoke" / "dial" / "result.json")
    by = {r["label"]: r for r in value["rows"]}
    names = ("maml", "maml-head_scale-0.05", "maml-head_scale-0.0", "unicorn")
    assert set(value["runs"]) == {f"glyphs-3way-1shot-smoke-{n}-seed0" for n in names}
    first = None
    for (start, scale), name in zip(STARTS.items(), names, strict=True):
        folder = tmp_path / "runs" / f"glyphs-3way-1shot-smoke-{name}-seed0"
        config, model, weights = load_run(folder, images=blobs())
        begun = dict(build.build_model(RunFolder(folder).config_as(Config.from_json), blobs()).named_parameters())
        first = first or begun
        assert torch.equal(begun["conv1.conv.weight"], first["conv1.conv.weight"])
        if scale is None:
            continue
        assert torch.equal(begun["head.weight"], first["head.weight"] * scale)
        family = build.tasks(config, blobs(), "test", config.test.query)
        inner = with_steps(config.inner_loop, config.test.inner_steps)
        for label, blocks in ((WHOLE, "all"), (FROZEN, "head")):
            again = evaluate(predictor(model, replace(inner, blocks=blocks)), weights, family, config.test)
            assert by[f"{start}, {label}"]["mean"] == pytest.approx(again.final.mean)
        lost = by[f"{start}, {FROZEN} − {WHOLE}"]["mean"]
        assert lost == pytest.approx(by[f"{start}, {FROZEN}"]["mean"] - by[f"{start}, {WHOLE}"]["mean"], abs=1e-6)
    assert len(value["claims"]) == len(STARTS)
    assert not any(c["paper_data"] for c in value["claims"])
