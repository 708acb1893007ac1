"""What all reproductions share: run folders that are trained once, and test episodes that are scored once."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from innerloop.core.episodes import ClassImages, Episodes, TaskFamily
from innerloop.core.functional import slow_weights
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, Evaluation, evaluate, fixed_episodes
from innerloop.methods.catalogue import METHODS, MULTICLASS, method
from innerloop.runs import RunFolder
from innerloop.studies.budget import Budget, budget_config
from innerloop.studies.claims import Learnt, range_of
from innerloop.studies.fan_out import Training, finished_run, train_together
from innerloop.studies.result import (
    Result,
    SeedValue,
    Value,
    described,
    difference,
    seed_value,
    without_speed_settings,
)
from innerloop.studies.stage import Stage
from innerloop.training import Config, build, load_run

SHARE_MULTICLASS = tuple(
    m.name for m in METHODS if m.trains_on == "classes" and m.make_head is None and m is not MULTICLASS
)
"""methods whose training is multiclass's; they differ at test time"""


@dataclass(frozen=True)
class Trained:
    """A trained model, or for the name "random" one that never was."""

    name: str
    config: Config
    model: nn.Sequential
    parameters: Mapping[str, Tensor]
    folder: RunFolder | None
    which: str = "best"
    """the checkpoint"""

    @property
    def content(self) -> str:
        """A digest of the model and its parameters."""
        digest = hashlib.sha256(repr(self.model).encode())
        for name, p in sorted(self.parameters.items()):
            digest.update(f"{name} {p.dtype} {tuple(p.shape)}".encode())
            digest.update(p.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass
class Lab:
    """The runs and test episodes of one data set, way, shot and budget."""

    data: str
    """its name, or module:attribute"""
    budget: Budget
    out: Path
    """the folder under which runs/ lies"""
    way: int = 5
    shot: int = 1
    seeds: tuple[int, ...] = (0, 1)
    data_dir: Path | None = None
    threads: int = 0
    device: str = "auto"
    methods: tuple[str, ...] = ()
    """for families: which methods, of ours or module:attribute; none: all of ours"""
    report: Callable[[Stage], None] = lambda _: None
    _images: list[ClassImages] = field(default_factory=list)
    _scores: dict[tuple[Any, ...], Evaluation] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """the names of the run folders that were asked for"""

    @property
    def title(self) -> str:
        """What a folder of its results is called."""
        return f"{self.data.replace(':', '.')}-{self.way}way-{self.shot}shot-{self.budget}"

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that a result depends on."""
        return without_speed_settings(self.config("maml", 0)).to_json()

    def described(self, result: Result, *, name: str, title: str, where: str, seconds: float) -> dict[str, Any]:
        """The result as written to result.json."""
        query = getattr(self.family, "query", self.settings.query)
        return described(
            result, self.config("maml", 0), name=name, title=title, where=where, query=query, seconds=seconds
        )

    def config(self, name: str, seed: int, **model: Any) -> Config:
        """The configuration of one run; `model` are settings of its model that are not the budget's."""
        config = budget_config(self.data, self.budget, self.way, self.shot, name, seed)
        config = replace(config, model=replace(config.model, **model))
        return replace(config, threads=self.threads or config.threads, device=self.device)

    @property
    def settings(self) -> EvalSettings:
        """The test episodes, the same for every model."""
        return self.config("maml", 0).test

    @property
    def images(self) -> ClassImages:
        """The data, read once."""
        if not self._images:
            found = build.load_images(self.config("maml", 0), self.data_dir)
            if found is None:
                raise InnerloopError(f"the paper's image experiments need image classes; {self.data} is a regression")
            self._images.append(found)
        return self._images[0]

    @property
    def family(self) -> TaskFamily:
        """The test tasks."""
        return build.tasks(self.config("maml", 0), self.images, "test", self.settings.query)

    @property
    def chunk(self) -> int | None:
        """Tasks in memory at once."""
        return build.chunk_size(self.config("maml", 0), self.images.images.device)

    def few(self, n: int) -> EvalSettings:
        """The test settings with the first `n` episodes only."""
        return replace(self.settings, episodes=min(n, self.settings.episodes))

    def episodes(self, n: int) -> Iterator[Episodes]:
        """The first `n` test episodes, in batches."""
        device = self.images.images.device
        return (e.to(device) for e in fixed_episodes(self.family, self.few(n)))

    def folder(self, name: str, seed: int, **model: Any) -> RunFolder:
        """Where a run lies."""
        own = "".join(f"-{k}-{v}" for k, v in sorted(model.items()))
        return RunFolder(self.out / "runs" / f"{self.title}-{method(name).name}{own}-seed{seed}")

    def train(self, name: str, seed: int, **model: Any) -> RunFolder:
        """The finished run of this method and seed: used if there, continued if started, trained if not."""
        config, folder = self.config(name, seed, **model), self.folder(name, seed, **model)
        self.asked.add(folder.path.name)
        title = f"train {name}, seed {seed}"
        wanted = Training(config, folder.path, self.data_dir)
        return finished_run(wanted, lambda p: self.report(Stage(title, p.step, p.steps, p)))

    def train_together(self, names: Iterable[str], jobs: int) -> None:
        """Train these methods with every seed, `jobs` at once in processes of one thread; what is there is used."""
        own = dict.fromkeys(MULTICLASS.name if n in SHARE_MULTICLASS else n for n in names if n != "random")
        wanted = [Training(self.config(n, s), self.folder(n, s).path, self.data_dir) for n in own for s in self.seeds]
        title = f"train {len(wanted)} runs, {jobs} at once"
        train_together(
            wanted, jobs=jobs, report=lambda _finished, _runs, done, steps: self.report(Stage(title, done, steps))
        )

    def trained(self, name: str, seed: int, which: str = "best", **of_model: Any) -> Trained:
        """The model of a run at one of its checkpoints; "random" is the untrained one of that seed.

        `of_model` are settings of its model that are not the budget's, such as head_scale=0.05.
        """
        use_threads(self.threads)
        if name == "random":
            config = self.config("maml", seed)
            model = build.build_model(config, self.images)
            return Trained(name, config, model, slow_weights(model), None)
        shared = name in SHARE_MULTICLASS
        folder = self.train(MULTICLASS.name if shared else name, seed, **of_model)
        config, model, parameters = load_run(folder.path, which=which, images=self.images, device=self.device)
        if shared:  # the same training, another test
            config = replace(self.config(name, seed), device=config.device)
        return Trained(name, config, model, parameters, folder, which)

    def score(self, run: Trained, test: str, blocks: tuple[str, ...] = (), **settings: Any) -> Evaluation:
        """Accuracy on the test episodes under the test-time method `test` (or with just `blocks` adapting), with these
        `settings` of the test instead of the run's (fields of `EvalSettings`, such as inner_steps=3).

        What was scored before is remembered by its content: weights, settings and method, not by the run's name.
        """
        run = replace(run, config=replace(run.config, test=replace(run.config.test, **settings)))
        learner = build.at_test(run.config, run.model, test)
        if blocks:
            learner = replace(learner, method=replace(learner.method, blocks=blocks))
        key = (run.content, learner.method, learner.settings, run.config.test)
        if key not in self._scores:
            title = f"test {run.name} ({run.which}), seed {run.config.seed}, " + (
                f"{' '.join(blocks)} adapt" if blocks else test
            )
            self._scores[key] = evaluate(
                learner,
                run.parameters,
                self.family,
                run.config.test,
                task_chunk=self.chunk,
                each_step=False,
                report=lambda done: self.report(Stage(title, done, self.settings.episodes)),
            )
        return self._scores[key]

    def per_seed(self, measure: Callable[[int], Value]) -> tuple[SeedValue, ...]:
        """`measure` of each seed."""
        return tuple(seed_value(s, measure(s)) for s in self.seeds)

    def learnt(self) -> Learnt:
        """What MAML has learned: its accuracy beyond that of NIL on the untrained body, on the same episodes."""

        def gain(seed: int) -> Value:
            maml, untrained = self.trained("maml", seed), self.trained("random", seed)
            return difference(self.score(maml, "maml"), self.score(untrained, "nil"))

        return Learnt(range_of(self.per_seed(gain)), self.shot)
