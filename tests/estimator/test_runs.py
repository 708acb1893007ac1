"""A run folder as the model: without its data, with its own inner loop, head, rates and image size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier, choose_method
from innerloop.runs import RunError
from innerloop.training import Config, build, load_run, train
from naming import names
from tiny import CONFIG, SINES, blobs, glyphs_of_16_pixels


def episode(way: int = 3) -> Episodes:
    return ImageTasks(blobs(16).split("test"), way, 2, 4).sample(1, generator_for(0, "test episode"))


def made(path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train on 16-pixel images; then take the data away, and call 16 the size of glyphs."""
    train(config, path)

    def gone(*_: object) -> None:
        raise FileNotFoundError("the data is not here")

    monkeypatch.setattr(build, "load_images", gone)
    glyphs_of_16_pixels(monkeypatch)
    return path


@pytest.mark.usefixtures("made_images")
@pytest.mark.parametrize("method", ["maml", "anil", "boil", "maml++", "proto-maml"])
def test_its_own_inner_loop_is_that_of_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Against `predictor` with everything the run has learned, on one episode, in both settings of batch norm."""
    config = replace(CONFIG, method=method)  # type: ignore[arg-type]
    path = made(tmp_path / "run", config, monkeypatch)
    e = episode()
    for statistics in ("support", "batch"):
        _, model, parameters = load_run(path, images=blobs(16))
        tested = replace(config, test=replace(config.test, statistics=statistics))
        predict = build.at_test(tested, model)
        with torch.no_grad():
            expected = predict(parameters, e)[0].softmax(-1)
        few = FewShotClassifier(str(path), method="maml", statistics=statistics)
        few.fit(e.support_x[0].numpy(), e.support_y[0].numpy())
        np.testing.assert_allclose(few.predict_proba(e.query_x[0].numpy()), expected, atol=1e-5)


@pytest.mark.usefixtures("made_images")
def test_a_run_classifies_any_way_and_any_form_of_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "run", CONFIG, monkeypatch)
    e = episode(5)
    x, y = e.support_x[0].numpy(), e.support_y[0].numpy()
    for method in ("nil", "means", "anil", "finetune"):
        few = FewShotClassifier(path, method=method, steps=2).fit(x, y)
        assert few.predict_proba(x[:1]).shape == (1, 5)
        assert few.support_features_.shape == (10, 4)
    with pytest.raises(InnerloopError, match=names("'maml'", path, 3, "y", 5)):
        FewShotClassifier(path, method="maml").fit(x, y)
    assert list(choose_method(x, y, model=path)[1]) == ["nil", "means", "anil"]
    few = FewShotClassifier(path).fit(x, y)
    flat = FewShotClassifier(path).fit(x.reshape(10, 256), y)
    np.testing.assert_allclose(flat.predict_proba(x.reshape(10, 256)), few.predict_proba(x), atol=1e-6)
    assert flat.n_features_in_ == 256  # pyright: ignore[reportAttributeAccessIssue]  (scikit-learn sets it)
    # files: black ink on white paper becomes the white on black that glyphs are
    ink = [Image.fromarray(255 - (255 * p[0]).round().astype(np.uint8)) for p in x]
    pictures = FewShotClassifier(path).fit(ink, y)
    np.testing.assert_allclose(pictures.support_features_, few.support_features_, atol=1e-4)


@pytest.mark.usefixtures("made_images")
def test_a_head_that_was_not_trained_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nil run's head is as it was drawn: anil starts from zero instead, so that no step gives no preference."""
    path = made(tmp_path / "run", replace(CONFIG, method="nil"), monkeypatch)
    e = episode()
    x, y = e.support_x[0].numpy(), e.support_y[0].numpy()
    few = FewShotClassifier(path, method="anil", steps=0).fit(x, y)
    np.testing.assert_allclose(few.predict_proba(x), 1 / 3)
    with pytest.raises(InnerloopError, match=names("'maml'", path, "nil", "means", "anil", "finetune")):
        FewShotClassifier(path, method="maml").fit(x, y)


@pytest.mark.usefixtures("made_images")
def test_a_run_of_all_classes_has_the_head_of_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "run", replace(CONFIG, method="multiclass"), monkeypatch)
    e = episode()
    few = FewShotClassifier(path).fit(e.support_x[0].numpy(), e.support_y[0].numpy())
    assert few.predict(e.query_x[0].numpy()).shape == (12,)


@pytest.mark.usefixtures("made_images")
def test_what_is_no_usable_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.zeros((4, 16, 16)), [0, 1, 0, 1]
    with pytest.raises(
        RunError, match=names(tmp_path / "absent", "config.json", "model", "'pretrained'", "nn.Sequential")
    ):
        FewShotClassifier(tmp_path / "absent").fit(x, y)
    train(SINES, tmp_path / "sines")
    with pytest.raises(InnerloopError, match=names(tmp_path / "sines", "sinusoid")):
        FewShotClassifier(tmp_path / "sines").fit(x, y)
    path = made(tmp_path / "run", CONFIG, monkeypatch)
    with pytest.raises(InnerloopError, match=names(path, 16, "image_size", 20)):
        FewShotClassifier(path, image_size=20).fit(x, y)
    with pytest.raises(InnerloopError, match=names("X", 10, path, "1×16×16")):
        FewShotClassifier(path).fit(np.zeros((4, 10)), y)
