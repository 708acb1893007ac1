"""An episode: one few-shot task with its support and its query set, and how one is drawn from image classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from innerloop.errors import InnerloopError, did_you_mean
from innerloop.validated import Count, Natural, Validated, checked

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Episodes:
    """A batch of tasks; every tensor has a leading task axis.

    For images, the examples of class 0 come first, then those of class 1, and so on; which class is called 0
    is drawn again in every episode. For regression, `*_y` is a float tensor of targets.
    """

    support_x: Float[Tensor, "tasks support *shape"]
    support_y: Tensor
    """int64 labels [tasks, support] in 0..way-1, or float targets [tasks, support, out]"""
    query_x: Float[Tensor, "tasks query *shape"]
    query_y: Tensor
    """int64 labels [tasks, query] in 0..way-1, or float targets [tasks, query, out]"""
    classes: Int[Tensor, "tasks way"] | None = None
    """which class of the source each label stands for (images only)"""

    def __post_init__(self) -> None:
        sets = {"support": (self.support_x, self.support_y), "query": (self.query_x, self.query_y)}
        for name, (x, y) in sets.items():
            for of, given in ((f"{name}_x", x), (f"{name}_y", y)):
                if not isinstance(given, Tensor):
                    raise TypeError(f"{of} must be a tensor, got {type(given).__name__}")
            if x.ndim < 2 or x.shape[:2] != y.shape[:2]:
                raise InnerloopError(
                    f"{name}_x and {name}_y need the same leading axes [tasks, examples] (one task: x[None], y[None]); "
                    f"got {tuple(x.shape)} and {tuple(y.shape)}"
                )
        if len(self.support_x) != len(self.query_x):
            raise InnerloopError(f"support_x has {len(self.support_x)} tasks, query_x has {len(self.query_x)}")
        if self.support_y.dtype != self.query_y.dtype:
            raise InnerloopError(
                f"support_y is {self.support_y.dtype}, query_y {self.query_y.dtype}; convert one of them"
            )

    def __len__(self) -> int:
        return self.support_x.shape[0]

    @property
    def way(self) -> int:
        """Classes an episode: of those drawn, else the largest support label + 1."""
        return int(self.support_y.max()) + 1 if self.classes is None else self.classes.shape[1]

    def __getitem__(self, tasks: slice) -> "Episodes":
        """The chunk of tasks `tasks`: views, no copies."""
        if not isinstance(tasks, slice):
            raise TypeError(f"episodes[i:j] takes a slice of tasks, got {tasks!r}; one task is episodes[i:i + 1]")
        return Episodes(
            self.support_x[tasks],
            self.support_y[tasks],
            self.query_x[tasks],
            self.query_y[tasks],
            None if self.classes is None else self.classes[tasks],
        )

    def to(self, device: torch.device | str) -> "Episodes":
        """The same episodes on another device."""
        return Episodes(
            self.support_x.to(device),
            self.support_y.to(device),
            self.query_x.to(device),
            self.query_y.to(device),
            None if self.classes is None else self.classes.to(device),
        )


@runtime_checkable
class TaskFamily(Protocol):
    """Anything that episodes can be drawn from: image classes, sinusoids, a user's own tasks."""

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes; the result depends on the generator's state alone."""
        ...


def check_draw(tasks: object, generator: object) -> None:
    """Raise if `sample` cannot take these: a number of tasks and a generator."""
    checked(Natural, tasks, "tasks")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, such as generator_for(0, 'name'), got {generator!r}")


@dataclass(frozen=True)
class ClassImages:
    """Labelled image classes in one uint8 tensor.

    The images of a class stand next to one another: class `c` is ``images[first[c] : first[c] + count[c]]``, turned by
    ``turns[c]`` quarter turns counter-clockwise. Several classes may share their images (Omniglot's rotations do).
    """

    name: str
    images: UInt8[Tensor, "images channels height width"]
    first: Int[Tensor, " classes"]
    count: Int[Tensor, " classes"]
    turns: Int[Tensor, " classes"]
    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """split name (train, val, test) -> the classes that belong to it; no class is in two splits"""

    def __post_init__(self) -> None:
        n = len(self.class_names)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise InnerloopError(
                f"{self.name}: images must be uint8 [images, channels, height, width], "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if not (self.first.shape == self.count.shape == self.turns.shape == (n,)):
            raise InnerloopError(
                f"{self.name}: first, count and turns must each have one entry for each of {n} classes"
            )
        if n and (
            int(self.first.min()) < 0
            or int(self.count.min()) < 1
            or int((self.first + self.count).max()) > len(self.images)
        ):
            raise InnerloopError(f"{self.name}: a class is empty or points outside the {len(self.images)} images")
        seen: dict[int, str] = {}
        for split, classes in self.splits.items():
            for c in classes:
                if not 0 <= c < n:
                    raise InnerloopError(f"{self.name}: split {split!r} names class {c}; classes are 0..{n - 1}")
                if c in seen:
                    raise InnerloopError(
                        f"{self.name}: class {self.class_names[c]!r} is in {seen[c]!r} and in {split!r}; "
                        "splits must not share classes"
                    )
                seen[c] = split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        return tuple(self.images.shape[1:])  # pyright: ignore[reportReturnType]

    def split(self, name: str) -> "ClassImages":
        """The classes of one split; the image tensor is shared, not copied."""
        if name not in self.splits:
            near = did_you_mean(name, self.splits)
            raise InnerloopError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits) or 'none'}{near}")
        return self.select(self.splits[name], name=f"{self.name}/{name}")

    def select(self, classes: Sequence[int], name: str | None = None) -> "ClassImages":
        """The classes with these numbers, in this order, as classes 0, 1, …; without splits."""
        index = torch.as_tensor(list(classes), dtype=torch.int64, device=self.first.device)
        return ClassImages(
            name or self.name,
            self.images,
            self.first[index],
            self.count[index],
            self.turns[index],
            tuple(self.class_names[c] for c in classes),
        )

    def to(self, device: torch.device | str) -> "ClassImages":
        """The same classes with all tensors on `device`, where episodes are then drawn."""
        return replace(
            self,
            images=self.images.to(device),
            first=self.first.to(device),
            count=self.count.to(device),
            turns=self.turns.to(device),
        )

    def take(
        self, index: Int[Tensor, "*batch"], turns: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch channels height width"]:
        """The images at positions `index` of the image tensor, as floats in 0..1, turned by `turns` quarter turns."""
        x = self.images[index].float().div_(255)
        if bool(turns.any()):
            if x.shape[-1] != x.shape[-2]:
                raise InnerloopError(f"{self.name}: only square images can be turned, these are {tuple(x.shape[-2:])}")
            for k in (1, 2, 3):
                mask = turns == k
                if bool(mask.any()):
                    x[mask] = torch.rot90(x[mask], k, dims=(-2, -1))
        return x

    @classmethod
    def from_tensors(
        cls,
        name: str,
        per_class: Sequence[UInt8[Tensor, "_ channels height width"]],
        class_names: Sequence[str],
        splits: Mapping[str, Sequence[int]] | None = None,
    ) -> "ClassImages":
        """Build from one uint8 tensor [n, channels, height, width] a class."""
        if len(per_class) != len(class_names):
            raise InnerloopError(f"{name}: {len(per_class)} image tensors but {len(class_names)} class names")
        if not per_class:
            raise InnerloopError(f"{name}: there are no classes")
        shape = per_class[0].shape[1:]
        for class_name, images in zip(class_names, per_class, strict=True):
            if images.shape[1:] != shape:
                raise InnerloopError(
                    f"{name}: images of class {class_name!r} have the shape {tuple(images.shape[1:])}, those of "
                    f"{class_names[0]!r} {tuple(shape)}; make them equal"
                )
        count = torch.tensor([len(c) for c in per_class], dtype=torch.int64)
        return cls(
            name,
            torch.cat(list(per_class)),
            count.cumsum(0) - count,
            count,
            torch.zeros_like(count),
            tuple(class_names),
            dict(splits or {}),
        )


@dataclass(frozen=True)
class ImageTasks(Validated):
    """N-way K-shot classification tasks over the classes of `data`.

    Exactly `shot` support and `query` query images per class, drawn without replacement and without overlap; the whole
    batch is drawn at once, on the device of the data.
    """

    data: ClassImages
    way: Count
    shot: Count
    query: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        classes = len(self.data.class_names)
        if self.way > classes:
            raise InnerloopError(f"way {self.way} is larger than the {classes} classes of {self.data.name}")
        fewest = int(self.data.count.min())
        if self.shot + self.query > fewest:
            poorest = self.data.class_names[int(self.data.count.argmin())]
            raise InnerloopError(
                f"shot {self.shot} + query {self.query} = {self.shot + self.query} images per class, but class "
                f"{poorest!r} of {self.data.name} has {fewest}; lower shot or query"
            )

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes. The same generator state gives the same episodes.

        Which images is decided on the generator's device, so that a generator of the CPU gives the same episodes
        wherever the images lie; they themselves never leave their device.
        """
        check_draw(tasks, generator)
        data, per_class = self.data, self.shot + self.query
        device, where = data.images.device, generator.device
        n = len(data.class_names)
        # the `way` largest of n random keys are a uniform ordered choice without replacement
        classes = torch.rand(tasks, n, generator=generator, device=where).topk(self.way, dim=1).indices
        count = data.count.to(where)[classes]
        keys = torch.rand(tasks, self.way, int(data.count.max()), generator=generator, device=where)
        keys.masked_fill_(torch.arange(keys.shape[-1], device=where) >= count[..., None], -1.0)
        chosen = keys.topk(per_class, dim=2).indices.to(device)  # [tasks, way, shot + query]
        classes = classes.to(device)
        index = data.first[classes][..., None] + chosen
        turns = data.turns[classes][..., None].expand_as(index)
        x = data.take(index, turns)  # [tasks, way, shot + query, c, h, w]
        label = torch.arange(self.way, device=device)
        shape = x.shape[3:]
        return Episodes(
            support_x=x[:, :, : self.shot].reshape(tasks, self.way * self.shot, *shape),
            support_y=label.repeat_interleave(self.shot).expand(tasks, -1),
            query_x=x[:, :, self.shot :].reshape(tasks, self.way * self.query, *shape),
            query_y=label.repeat_interleave(self.query).expand(tasks, -1),
            classes=classes,
        )
