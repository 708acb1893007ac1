"""Training DAGAN: critic of pairs against generator, on the training classes alone; resumable bit for bit on a CPU.

Antoniou, Storkey & Edwards 2017 (arXiv 1711.04340) with the loss of Gulrajani et al. 2017 (WGAN-GP).
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.core.episodes import ClassImages, ImageTasks
from innerloop.core.random import generator_for
from innerloop.core.ranks import Ranks, joined
from innerloop.core.threads import use_threads
from innerloop.data.catalogue import find_images
from innerloop.data.distort import Affine, Augmentation, Crop, Elastic, Flip
from innerloop.data.folder import Folder
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.models.dagan import Critic, Dagan, Generator, Sizes, gradient_penalty
from innerloop.runs import RunFolder
from innerloop.runs.config_json import config_from_json
from innerloop.runs.folder import Checkpoint, load_weights
from innerloop.training import build
from innerloop.training.config import Config
from innerloop.training.loop import Job, Progress, run
from innerloop.validated import Count, Decay, NonNegative, OptimizerRate, Threads, Validated

KIND = "dagan"
CLASSICAL: dict[str, Augmentation] = {"affine": Affine(), "elastic": Elastic(), "crop": Crop(), "flip": Flip()}
"""the augmentations that need no training, by name"""
_VAL_PAIRS = 256


@dataclass(frozen=True)
class DaganConfig(Validated):
    """Everything that decides the training of a DAGAN."""

    data: str = "glyphs"
    """data set of images: one of `innerloop data list`, or module:attribute for one of your own"""
    folder: Folder = field(default_factory=Folder)
    split_scheme: str = ""
    """which published split, if there are several (omniglot: vinyals or lake)"""
    sizes: Sizes = field(default_factory=Sizes)
    steps: Count = 1000
    """generator steps"""
    critic_steps: Count = 5
    """critic steps before each generator step"""
    batch: Count = 32
    """pairs per step"""
    lr: OptimizerRate = 1e-4
    """Adam's rate, of both nets"""
    beta1: Decay = 0.0
    """Adam's decay of the mean gradient"""
    beta2: Decay = 0.9
    """Adam's decay of the mean square"""
    penalty: NonNegative = 10.0
    """weight of the gradient penalty"""
    every: Count = 100
    """generator steps between checkpoints (and lines of metrics.jsonl)"""
    seed: int = 0
    """root seed of initialisation, pairs and noise"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: Threads = 0
    """CPU threads; 0 leaves PyTorch's choice"""

    def __post_init__(self) -> None:
        super().__post_init__()
        find_images(self.data, split_scheme=self.split_scheme, folder=self.folder)  # fail early

    def to_json(self) -> dict[str, Any]:
        """Plain values, and the kind of run."""
        return {"kind": KIND, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "DaganConfig":
        """The config written by `to_json`. Raises ValueError for that of another kind of run."""
        if value.get("kind") != KIND:
            raise InnerloopError("config is not that of a DAGAN; train one with 'innerloop dagan'")
        return config_from_json(cls, {k: v for k, v in value.items() if k != "kind"})


def same_class_pairs(data: ClassImages, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`n` pairs [n, c, h, w] of two different images of one class, each pair's class drawn uniformly."""
    e = ImageTasks(data, way=1, shot=1, query=1).sample(n, generator)
    return e.support_x[:, 0], e.query_x[:, 0]


def train_dagan(
    config: DaganConfig,
    out: Path,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> RunFolder:
    """Train as `config` says, into the run folder `out`. Only the classes of the training split are learned from.

    metrics.jsonl: `distance`, the mean over the steps since the last line of critic(real pair) − critic(generated
    pair), which falls as the generated come nearer; `penalty`, the gradient penalty before its weight; `distance_val`
    the same distance on a fixed draw of pairs of the validation classes. Both are in the critic's units, so they
    compare lines of one run, not runs.

    Ctrl-C, SIGTERM and SIGHUP finish the running step, write a checkpoint and raise `Interrupted`. Raises RunError for
    a folder that may not be written to, FloatingPointError if a loss is not finite (the last good checkpoint stays).

    Under torchrun the processes split the pairs of each batch; the result equals that of one process, to rounding.
    """
    with joined() as ranks:
        return _train(config, out, data_dir, ranks, resume=resume, report=report)


def _train(
    config: DaganConfig,
    out: Path,
    data_dir: Path | None,
    ranks: Ranks,
    *,
    resume: bool,
    report: Callable[[Progress], None],
) -> RunFolder:
    if config.batch < ranks.size:
        raise InnerloopError(
            f"{config.batch} pairs do not suffice for {ranks.size} processes; raise --batch, or start fewer"
        )
    use_threads(config.threads, stored=resume)
    device = build.choose_device(config.device)
    images = load_images(config, data_dir)
    data, held_out = images.split("train"), images.split("val")
    for part in (data, held_out):
        ImageTasks(part, way=1, shot=1, query=1)  # says now what would fail at the first pair
    generator, critic = _networks(config, images, device)
    makers: dict[str, Tensor] = dict(generator.named_parameters(prefix="generator"))
    judges: dict[str, Tensor] = dict(critic.named_parameters(prefix="critic"))
    optimizers = [
        torch.optim.Adam(
            list(p.values()),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            foreach=False,
            fused=device.type == "cuda" or None,
        )
        for p in (makers, judges)
    ]

    share = ranks.share(config.batch)
    weight = (share.stop - share.start) / config.batch

    def drawn(chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Of the whole batch's pairs and noise, this process's share."""
        x, other = same_class_pairs(data, config.batch, chance)
        return x[share], other[share], _noise(config, len(x), chance, device)[share]

    def step(step: int) -> dict[str, float]:
        chance = generator_for(config.seed, KIND, step)
        sums = {"distance": 0.0, "penalty": 0.0}
        for _ in range(config.critic_steps):
            x, other, noise = drawn(chance)
            with torch.no_grad():
                made = generator(x, noise)
            values = critic(torch.cat([x, x]), torch.cat([other, made]))
            gap = values[: len(x)].mean() - values[len(x) :].mean()
            part = torch.rand(config.batch, generator=chance).to(x)[share]
            slope = gradient_penalty(critic, x, other, made, part)
            loss = config.penalty * slope - gap
            found = _step(optimizers[1], loss, (gap, slope), weight, ranks, f"the critic's loss at step {step}")
            sums = {name: value + f for (name, value), f in zip(sums.items(), found, strict=True)}
        x, _, noise = drawn(chance)
        loss = -critic(x, generator(x, noise)).mean()
        _step(optimizers[0], loss, (), weight, ranks, f"the generator's loss at step {step}")
        return {name: value / config.critic_steps for name, value in sums.items()}

    job = Job(
        config.steps,
        step,
        {**makers, **judges},
        list(zip(optimizers, (makers, judges), strict=True)),
        config.every,
        lambda: {"distance_val": _distance(config, generator, critic, held_out, device, ranks)},
        larger_is_better=None,
        averaged=("distance", "penalty"),
        log_every=config.every,
        state={"image_shape": list(images.image_shape)},
    )
    return run(
        job,
        out,
        config.to_json(),
        read=lambda c: DaganConfig.from_json(c).to_json(),
        resume=resume,
        ranks=ranks,
        report=report,
    )


def load_dagan(
    path: str | os.PathLike[str], *, checkpoint: Checkpoint | None = None, device: str | None = None
) -> Dagan:
    """The generator of a run folder's last checkpoint, or of one read from it, as an augmentation; no data set is
    read."""
    folder = RunFolder(Path(path))
    config = folder.config_as(DaganConfig.from_json)
    checkpoint = checkpoint or folder.load("last")
    (shape,) = checkpoint.entries(image_shape=[int, int, int])
    network = Generator((shape[0], shape[1], shape[2]), config.sizes, generator_for(config.seed, "init", "generator"))
    own = {n: w for n, w in checkpoint.weights.items() if n.startswith("generator.")}
    load_weights(dict(network.named_parameters(prefix="generator")), replace(checkpoint, weights=own))
    return Dagan(network.to(build.choose_device(device or config.device)).eval().requires_grad_(False))


def augmentation(name: str) -> Augmentation:
    """An augmentation by its name (affine, elastic, crop, flip), or the DAGAN of the run folder `name`."""
    if name in CLASSICAL:
        return CLASSICAL[name]
    if not RunFolder(Path(name)).exists:
        raise InnerloopError(
            f"there is no augmentation {quoted(name)}; give {', '.join(CLASSICAL)}, or the folder of a run of "
            f"'innerloop dagan'{did_you_mean(name, CLASSICAL)}"
        )
    return load_dagan(Path(name))


def load_images(config: DaganConfig, data_dir: Path | None = None) -> ClassImages:
    """The image classes with their splits, on the config's device."""
    source = Config(data=config.data, folder=config.folder, split_scheme=config.split_scheme, device=config.device)
    images = build.load_images(source, data_dir)
    assert images is not None  # DaganConfig refuses a regression
    return images


def _networks(config: DaganConfig, images: ClassImages, device: torch.device) -> tuple[Generator, Critic]:
    shape = images.image_shape
    generator = Generator(shape, config.sizes, generator_for(config.seed, "init", "generator")).to(device)
    return generator, Critic(shape, config.sizes, generator_for(config.seed, "init", "critic")).to(device)


def _noise(config: DaganConfig, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(n, config.sizes.noise, generator=generator).to(device)


def _step(
    optimizer: torch.optim.Optimizer, loss: Tensor, more: Sequence[Tensor], weight: float, ranks: Ranks, name: str
) -> list[float]:
    """One step on the parameters of `optimizer` alone; the other net is left without gradients. `loss` and the numbers
    `more` are means over this process's share of the batch, which is `weight` of it; gives those over the batch."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    loss = weight * loss
    gradients = torch.autograd.grad(loss, own, materialize_grads=True)
    numbers = [loss.detach(), *(weight * m.detach() for m in more)]
    found = ranks.sum_all([*gradients, *numbers])
    whole, *others = (n.item() for n in found[len(own) :])
    if not math.isfinite(whole):
        raise FloatingPointError(f"{name} is {whole}: lower --lr")
    for p, g in zip(own, found, strict=False):
        p.grad = g
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return others


@torch.no_grad()
def _distance(
    config: DaganConfig, generator: Generator, critic: Critic, data: ClassImages, device: torch.device, ranks: Ranks
) -> float:
    """Critic of real pairs minus critic of generated ones, on a fixed draw of pairs."""
    chance = generator_for(config.seed, KIND, "val")
    share = ranks.share(_VAL_PAIRS)
    x, other = (images[share] for images in same_class_pairs(data, _VAL_PAIRS, chance))
    made = generator(x, _noise(config, _VAL_PAIRS, chance, device)[share])
    real, generated = (ranks.whole(critic(x, y), _VAL_PAIRS) for y in (other, made))
    return float(real.mean() - generated.mean())
