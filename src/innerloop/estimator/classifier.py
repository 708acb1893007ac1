"""A few-shot classifier with the face of scikit-learn: `fit` is the inner loop on the support set."""

import os
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.inner import InnerLoop
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.estimator.bodies import Body, resolve
from innerloop.estimator.feature_cache import FeatureCache, identity
from innerloop.estimator.heads import UnitLinear, adapt_head, nearest_mean
from innerloop.estimator.inputs import Images, Reader, kind
from innerloop.estimator.network import Network, adapting, unadapted, with_fresh_head, without_adapting
from innerloop.estimator.onnx_file import as_onnx
from innerloop.estimator.saved import Example, Layout, Prepared, Saved, Settings, label_kind, read_saved, write_saved
from innerloop.estimator.unknown import Threshold, calibrate, nearness
from innerloop.methods.metric import cosine_attention
from innerloop.runs.files import write_bytes
from innerloop.training.build import choose_device

METHODS = ("nil", "means", "anil", "finetune", "maml")
TEMPERATURE = {"nil": 25.0, "means": 12.5}
"""where neither the user nor a run says otherwise; `docs/estimator.md` tells how they were chosen"""
FRESH_HEAD = InnerLoop("head", steps=100, lr=10.0)
"""of a head that starts at zero, on features of length 1"""
OWN_HEAD = InnerLoop("head", steps=10, lr=0.1)
"""of the head that a user's own model brings"""
FINE_TUNING = InnerLoop("all", steps=10, lr=0.01)
"""of all blocks, after the head"""


@dataclass(frozen=True)
class Guesses:
    """What a classifier makes of n images."""

    probabilities: NDArray[np.float64]
    """[n, classes], in the order of `classes_`"""
    nearest: NDArray[np.int64]
    """[n, k]: the numbers of the support images whose features are nearest, by cosine"""
    cosines: NDArray[np.float64]
    """[n, k]: theirs"""
    known: NDArray[np.bool_] | None
    """[n]: whether the image is of one of the classes; None where `unknown` is"""


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Classify images by a few examples of each class.

    Nothing is random here, so there is no seed.

    X is an array [n, h, w], [n, h, w, c] or [n, c, h, w] (uint8, or floats in 0..1), a list of files or of PIL images,
    or an array [n, d]. The last are features, used as they are, where model is "pretrained"; they go through an
    `nn.Sequential`; for a run they are flattened images.

    Parameters
    ----------
    model : "pretrained" (a body of ImageNet features, extra `pretrained`), the path of an innerloop run folder (its
        data need not be there) or of a saved classifier (its network is taken), or an `nn.Sequential` of named blocks.
        A model of one block is a body alone; of two or more, the last is the head. The model itself is never changed.
    method : "nil": each support image votes for its class by the cosine of features (no inner loop), and the mean
        vote of a class counts, which for classes of equally many is the papers' sum; "means": nearest class mean;
        "anil": a linear head adapts; "finetune": a head adapts, then all blocks; "maml": the inner loop that the run
        was trained with, whichever blocks that adapts (for a run whose way fits). "anil" and "finetune" start from the
        model's own head if that was trained with an inner loop (a user's model: in any way) and has as many outputs as
        y has classes, else from one at zero.
    steps, lr : inner steps and inner rate; None: the run's for its own head, else those in
        `innerloop.estimator.classifier`.
    temperature : what multiplies cosines ("nil") or negative squared distances ("means"); None: the run's for "nil",
        else 25 and 12.5. It decides how sure the probabilities are, and in "nil" how much nearer support images count.
    statistics : whose batch statistics normalise a query image in models without stored ones: "support", the support
        set's, so that no query image influences another; "batch", those of all of X at once (transductive, the setting
        of the MAML papers, which needs many query images of all classes).
    image_size : pixels a side; None: the model's.
    batch_size : images that go through the model at a time; where batch statistics matter the support set is one batch.
    cache : a folder that keeps features between calls, for bodies that do not adapt and treat each image alone.
    device : "auto", "cpu", "cuda".
    unknown : the label that `predict` gives to an image of none of the classes, such as "none of these" or -1; None:
        there is none. An image is that if its features are farther (by cosine) from the mean of the nearest class than
        a threshold, `threshold_`, which is calibrated on the support set (`estimator.unknown`) and has its error rates.
        For bodies that treat each image alone and do not adapt. Probabilities stay those of the classes.

    Attributes
    ----------
    classes_ : the labels, sorted.
    n_features_in_ : columns of X, if it was [n, d].
    support_features_ : [n, d], what the body makes of the support set (after adaptation, if it adapts).
    temperature_ : the temperature in use.
    threshold_ : where `unknown` is given.
    examples_ : names and small images of the support set, where it was loaded from a file that has them.
    """

    n_features_in_: int
    feature_names_in_: NDArray[Any]
    examples_: tuple[Example, ...]
    threshold_: Threshold | None

    def __init__(
        self,
        model: Any = "pretrained",
        *,
        method: Any = "nil",
        steps: Any = None,
        lr: Any = None,
        temperature: Any = None,
        statistics: Any = "support",
        image_size: Any = None,
        batch_size: Any = 32,
        cache: Any = None,
        device: Any = "auto",
        unknown: Any = None,
    ) -> None:
        self.model = model
        self.method = method
        self.steps = steps
        self.lr = lr
        self.temperature = temperature
        self.statistics = statistics
        self.image_size = image_size
        self.batch_size = batch_size
        self.cache = cache
        self.device = device
        self.unknown = unknown

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":
        """The inner loop on the support set X with its labels y [n]: whole numbers, text or booleans.

        Raises ValueError for parameters and data that do not fit, PictureError (a ValueError) for a file that cannot
        be read, RunError for a run folder that cannot be used.
        """
        self._fitted = False  # a fit that fails leaves no mixture of two support sets
        self.__dict__.pop("examples_", None)
        self._check_parameters()
        body, given, labels = self._support(X, y)
        self._labels = torch.from_numpy(labels)
        self.temperature_ = self._chosen_temperature(body)
        self._take(body)
        if body is None:
            if self.method in ("finetune", "maml"):
                raise InnerloopError(
                    f"method {self.method!r} adapts a network's body, but X holds features [n, d]; use nil, means or "
                    "anil, or give images"
                )
            self._network, support = None, given
        else:
            self._network = self._learn(body, given)
            support = self._network.support_features(given, self.batch_size)
        self._finish(support)
        return self

    def _take(self, body: Body | None) -> None:
        """What the body and the number of classes decide."""
        self._body = body
        self._own_head = False
        self._fits = body is not None and body.fits(len(self.classes_))
        self._has_own_loop = body is not None and (
            body.trained is not None and (self._fits or body.trained.start != "own")
        )

    def _finish(self, support: Tensor, head: UnitLinear | None = None) -> None:
        """What is kept of a support set's features [n, d], and the head made of them if that is not at hand."""
        self._support_features = support.double()
        self.support_features_ = support.numpy()
        self._head = head
        if self.method == "anil" and not self._own_head and head is None:
            self._head = adapt_head(self._support_features, self._labels, self._inner(FRESH_HEAD))
        self.threshold_ = None
        if self.unknown is not None:
            self._check_unknown()
            self.threshold_ = calibrate(self.support_features_, self._labels.numpy())
        self._fitted = True

    def _check_unknown(self) -> None:
        if not self.can_grow:
            raise InnerloopError(
                "unknown needs features that depend on each image alone: no batch statistics, no "
                "adapted network; leave it at None"
            )
        known = self.classes_.tolist()
        if self.unknown in known or type(self.unknown) is not type(known[0]):
            raise InnerloopError(
                f"unknown must be a label of the same kind as the classes and none of them, got {quoted(self.unknown)}"
            )

    def save(self, path: str | os.PathLike[str], *, examples: Sequence[Example] | None = None) -> None:
        """Write all that `load` needs into one safetensors file: the network, the support set's features, settings.

        Pictures are not in it, but for small ones that are given as `examples`, one for each of the support set (those
        that the classifier was loaded with otherwise). The network of a user's own is saved without its Python code.
        """
        check_is_fitted(self)
        examples = self.__dict__.get("examples_") if examples is None else examples
        if examples is not None and len(examples) != len(self._labels):
            raise InnerloopError(f"there are {len(examples)} examples for {len(self._labels)} support images")
        body, network = self._body, self._network
        tensors = {"support/features": torch.from_numpy(self.support_features_), "support/labels": self._labels}
        head = network.model[-1] if self._own_head and network is not None else self._head
        if isinstance(head, UnitLinear):
            tensors |= {f"head/{n}": t for n, t in head.named_parameters()}
        if body is not None and network is not None:
            tensors |= {f"body/{n}": t for n, t in body.tensors.items()}
            tensors |= {f"fast/{n}": t for n, t in network.fast.items()}
            tensors |= {f"last/{n}": t for n, t in network.last.items()}
            for n, pair in (network.statistics or {}).items():
                tensors |= {f"statistics/{n}/{part}": t for part, t in zip(("mean", "variance"), pair, strict=True)}
        layout = Layout(
            classes=tuple(self.classes_.tolist()),
            labels=label_kind(self.classes_),  # pyright: ignore[reportArgumentType]
            temperature=self.temperature_,
            body="none" if body is None else body.kind,
            images=Prepared() if body is None else Prepared.of(body.wanted),
            settings=Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)}),
            rows=self._reader.rows,
            columns=getattr(self, "n_features_in_", None),
            column_names=tuple(names) if (names := getattr(self, "feature_names_in_", None)) is not None else None,
            examples=None if examples is None else tuple(e.name for e in examples),
            config=None if body is None else body.config,
            step=body.checkpoint.step if body and body.checkpoint else 0,
        )
        write_saved(Path(path), layout, tensors, examples)

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the classifier as an ONNX file (extra `onnx`), which other programs run without PyTorch.

        In: `images` [n, views, channels, height, width], values in 0..1 (a row of numbers: `features` [n, d]). Out:
        `probabilities` [n, classes] and, with `unknown`, `known` [n]. The metadata entry `innerloop` has the classes
        and how a picture becomes its views. Raises InnerloopError where an image's probabilities depend on the others.
        """
        check_is_fitted(self)
        write_bytes(Path(path), as_onnx(self))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        model: nn.Sequential | None = None,
        cache: Any = None,
        device: Any = "auto",
    ) -> "FewShotClassifier":
        """The fitted classifier in a file that `save` wrote: it gives the same probabilities to the last bit.

        `model` is the network of a user's own, whose weights are then replaced. `examples_` are the small pictures that
        were saved. Raises InnerloopError, naming the file, for one that is damaged, was changed, or does not fit.
        """
        saved = read_saved(path)
        try:
            return cls._from(saved, model, cache, device)
        except InnerloopError as error:
            if str(saved.path) in str(error):
                raise
            raise InnerloopError(f"{saved.path}: {error}") from None

    @classmethod
    def _from(cls, saved: Saved, model: nn.Sequential | None, cache: Any, device: Any) -> "FewShotClassifier":
        """The classifier in a file that was read."""
        at = saved.layout
        body = saved.body(choose_device(device), model)
        base = "pretrained" if body is None else str(saved.path) if model is None else model
        made = cls(base, cache=cache, device=device, **asdict(at.settings))
        made._check_parameters()
        made.classes_ = at.class_array
        made.temperature_ = at.temperature
        made._reader = Reader(
            at.rows, body and body.wanted, bool(body and body.flat), (body and body.run) or "the model"
        )
        if at.columns is not None:
            made.n_features_in_ = at.columns
        if at.column_names is not None:
            made.feature_names_in_ = np.array(at.column_names, dtype=object)
        if (examples := saved.examples) is not None:
            made.examples_ = examples
        support, made._labels = saved.support
        made._take(body)
        own = made._own_head = made._through_network(made.method)
        if (body is None and (own or not at.rows)) or (made.method == "maml" and not made._has_own_loop):
            saved.refuse(f"method {made.method!r} does not go with what it holds")
        network = None if body is None else unadapted(body, None if own else made._feature_cache(body))
        head = UnitLinear(support.shape[1], len(made.classes_)).double()
        if body is not None and own and made.method == "finetune" and not made._fits:
            network = with_fresh_head(body, head)
            head = cast(UnitLinear, network.model[-1])
        elif own or made.method != "anil":
            head = None
        if head is not None:
            saved.fill_head(head)
        made._network = network and saved.adapted(network)
        made._finish(support, None if own else head)
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_fitted", False)

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each image [n]."""
        check_is_fitted(self)
        found = self.guess(X)
        labels = self.classes_[found.probabilities.argmax(1)]
        return labels if found.known is None else np.where(found.known, labels, np.array(self.unknown))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class [n, classes], in the order of `classes_`; each row sums to 1."""
        check_is_fitted(self)
        return self._logits(self._query(X)).double().softmax(1).numpy()

    def guess(self, X: Any, *, nearest: int = 0) -> "Guesses":
        """All that there is to say about each image, in one pass where nothing adapts through the network."""
        check_is_fitted(self)
        given = self._query(X)
        needed = nearest or self.threshold_ or not self._own_head
        features = self._features(given).double() if needed else None
        probabilities = self._logits(given, features).double().softmax(1).numpy()
        near = torch.empty(len(probabilities), 0, dtype=torch.float64)
        order = near.long()
        if nearest and features is not None:
            cosines = F.normalize(features, dim=1) @ F.normalize(self._support_features, dim=1).T
            near, order = (t[:, :nearest] for t in cosines.sort(dim=1, descending=True, stable=True))
        known = None
        if self.threshold_ and features is not None:
            known = nearness(features.numpy(), self.support_features_, self._labels.numpy()) >= self.threshold_.value
        return Guesses(probabilities, order.numpy(), near.numpy(), known)

    @property
    def can_grow(self) -> bool:
        """Whether the features of each image depend on that image alone, so that others can join the support set."""
        return not self._own_head and (self._network is None or not self._network.by_batch)

    def extended(self, X: Any, y: Any) -> "FewShotClassifier":
        """A copy with these further support images, of classes at hand or new ones; this classifier is not changed.

        For bodies that treat each image alone and do not adapt: the features of the others are kept as they are. It has
        no `examples_`. Raises InnerloopError for any other, which must be fitted again.
        """
        check_is_fitted(self)
        if not self.can_grow:
            raise InnerloopError(
                "this classifier adapts its network, or its features depend on the whole support set: fit again"
            )
        features = self._features(self._query(X))
        y = column_or_1d(y, warn=True)
        if len(y) != len(features):
            raise InnerloopError(f"X has {len(features)} images, y has {len(y)} labels; there must be one for each")
        if y.dtype.kind != self.classes_.dtype.kind:
            raise InnerloopError(f"the classes are of another kind ({self.classes_.dtype}) than y ({y.dtype})")
        more = copy(self)
        more.__dict__.pop("examples_", None)
        more.classes_, labels = np.unique(np.concatenate([self.support_labels_, y]), return_inverse=True)
        more._labels = torch.from_numpy(labels.astype(np.int64))
        more._take(self._body)
        more._finish(
            torch.cat(
                [torch.from_numpy(self.support_features_), features.to(torch.from_numpy(self.support_features_).dtype)]
            )
        )
        return more

    def features(self, X: Any) -> NDArray[Any]:
        """What the body makes of X, [n, d]; adapted, if the method adapts the body."""
        check_is_fitted(self)
        return self._features(self._query(X)).numpy()

    def nearest_support(self, X: Any) -> NDArray[np.int64]:
        """For each of X the number of the support image whose features are nearest by cosine, [n]."""
        check_is_fitted(self)
        return self.guess(X, nearest=1).nearest[:, 0]

    @property
    def support_labels_(self) -> NDArray[Any]:
        """The label of each image of the support set, [n]."""
        check_is_fitted(self)
        return self.classes_[self._labels.numpy()]

    @property
    def has_fixed_features(self) -> bool:
        """Whether a network makes each image's features from that image alone (as long as nothing adapts)."""
        check_is_fitted(self)
        return self._network is not None and not self._network.by_batch

    def adapts_network(self, method: str) -> bool:
        """Whether that method runs its inner loop through the network, rather than on features."""
        check_is_fitted(self)
        return self._through_network(method)

    def fitting_methods(self) -> tuple[str, ...]:
        """The methods for this model and support set, without fine-tuning, which takes minutes."""
        check_is_fitted(self)
        return ("nil", "means", "anil", *(("maml",) if self._has_own_loop else ()))

    def _through_network(self, method: str) -> bool:
        return method in ("finetune", "maml") or (method == "anil" and self._fits)

    def _features(self, given: Tensor | Images) -> Tensor:
        if isinstance(given, Tensor):
            return given
        assert self._network is not None
        return self._network.features(given, self.batch_size)

    def _logits(self, given: Tensor | Images, features: Tensor | None = None) -> Tensor:
        """[n, way], whose softmax are the probabilities; `features` where they are made already."""
        if self._own_head:
            assert self._network is not None
            assert isinstance(given, Images)
            logits = self._network.logits(given, self.batch_size)
        else:
            query = self._features(given).double() if features is None else features
            support, y = self._support_features, self._labels
            if self.method == "means":
                logits = nearest_mean(query, support, y, temperature=self.temperature_)
            elif self._head is not None:
                with torch.no_grad():
                    logits = self._head(query)
            else:
                votes = cosine_attention(query[None], support[None], y[None], temperature=self.temperature_)[0]
                logits = votes - torch.bincount(y).log()
        if not bool(logits.isfinite().all()):
            raise FloatingPointError("an output is not finite: the adapted weights diverged; lower lr")
        return logits

    def _learn(self, body: Body, given: Images) -> Network:
        """The network, after its inner loop if the method has one that goes through it."""
        trained, y = body.trained, self._labels
        if self.method == "maml" and not self._has_own_loop:
            has = (
                f"that of {body.run} is for {body.way} classes, y has {len(self.classes_)}"
                if trained
                else f"{body.run or 'this model'} has none; use nil, means, anil or finetune"
            )
            raise InnerloopError(f"method 'maml' is the inner loop that a run was trained with: {has}")
        self._own_head = self._through_network(self.method)
        if not self._own_head:
            return without_adapting(body, given, self.statistics, self._feature_cache(body))
        if self.method == "maml" and trained:
            return adapting(body, given, y, self._inner(trained.inner), self.statistics, own=trained)
        inner = FINE_TUNING if self.method == "finetune" else OWN_HEAD
        if self._fits:
            if trained:
                inner = replace(trained.inner, blocks=inner.blocks)
            return adapting(body, given, y, self._inner(inner), self.statistics, own=trained)
        # a body gets no gradient through a head at zero: the head adapts first
        plain = without_adapting(body, given, self.statistics, None)
        support = plain.support_features(given, self.batch_size)
        head = adapt_head(support.double(), y, FRESH_HEAD)
        return adapting(body, given, y, self._inner(inner), self.statistics, head=head)

    def _inner(self, default: InnerLoop) -> InnerLoop:
        steps = default.steps if self.steps is None else int(self.steps)
        return replace(default, steps=steps, lr=default.lr if self.lr is None else float(self.lr))

    def _chosen_temperature(self, body: Body | None) -> float:
        if self.temperature is not None:
            return float(self.temperature)
        if self.method == "nil" and body is not None and body.temperature is not None:
            return body.temperature
        return TEMPERATURE.get(self.method, 1.0)

    def _feature_cache(self, body: Body) -> FeatureCache | None:
        if self.cache is None:
            return None
        return FeatureCache(Path(self.cache).expanduser(), identity(body.model, repr(body.wanted)))

    def _check_parameters(self) -> None:
        if self.method not in METHODS:
            near = did_you_mean(self.method, METHODS)
            raise InnerloopError(f"method must be one of {', '.join(METHODS)}; got {quoted(self.method)}{near}")
        if self.statistics not in ("support", "batch"):
            raise InnerloopError(f"statistics must be support or batch; got {self.statistics!r}")
        choose_device(self.device)
        for name, least in (("steps", 0), ("image_size", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if value is None and name != "batch_size":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InnerloopError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("lr", "temperature"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float | np.number) and 0 < value < float("inf")):
                raise InnerloopError(f"{name} must be a number above 0, got {value!r}")

    def _support(self, X: Any, y: Any) -> tuple[Body | None, Any, NDArray[np.int64]]:
        """The body, the support set (a tensor of features, or images), and labels 0..way-1; sets `classes_`."""
        if y is None:
            raise InnerloopError("FewShotClassifier requires y to be passed, but the target y is None")
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        rows = kind(X) == "features"
        if rows:
            X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        if rows and isinstance(self.model, str) and self.model == "pretrained":
            body, self._reader = None, Reader(rows, None)
        else:
            body = resolve(self.model, self.image_size, self.device)
            self._reader = Reader(rows, body.wanted, body.flat, body.run or "the model")
        given = self._reader.read(X)
        y = column_or_1d(y, warn=True)
        if len(y) != len(given):
            raise InnerloopError(f"X has {len(given)} images, y has {len(y)} labels; there must be one for each")
        with warnings.catch_warnings():  # one image per class looks like a regression
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InnerloopError(f"y has one class only, {self.classes_[0]!r}; a classifier needs 2 or more classes")
        return body, given, labels.astype(np.int64)

    def _query(self, X: Any) -> Tensor | Images:
        if self._reader.rows and kind(X) == "features":
            X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._reader.read(X)
