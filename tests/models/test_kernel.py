"""The compiled kernel against PyTorch's operators: value, first and second derivative; and how it comes to be there."""

import ctypes
import os
import platform
import shutil
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_kernels import derivatives, draw
from torch import Tensor, nn
from torch.nn import functional as F

from forks import all_of
from innerloop.core.episodes import ImageTasks
from innerloop.core.functional import batch_statistics, forward, slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import accuracy, cross_entropy
from innerloop.core.outer import OuterLoop, meta_gradient, outer_step
from innerloop.methods.method import predictor
from innerloop.models import BatchNorm2d, conv4, kernel
from planting import plants
from tiny import blobs

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)
EPS = 0.02
WITHOUT = None, kernel.KernelStatus("off", "")
SHAPES = [(3, 8, 6, 4), (2, 16, 7, 5), (2, 8, 5, 23), (1, 8, 2, 2), (1, 8, 3, 2), (2, 8, 12, 13)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel was looked for yet; the size of the images does not matter."""
    monkeypatch.delenv("INNERLOOP_KERNEL", raising=False)
    monkeypatch.setattr(kernel, "_found", None)
    monkeypatch.setattr(kernel, "SMALLEST", dict.fromkeys(kernel.SMALLEST, 0))


@pytest.fixture
def compiled(fresh: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The kernel, not yet checked by itself; the names of its functions as they are called."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))
    monkeypatch.setattr(kernel, "_check", lambda library: None)
    assert kernel.kernel_status().state == "compiled"
    called: list[str] = []
    right = kernel._call
    monkeypatch.setattr(kernel, "_call", lambda library, name, *a: (called.append(name), right(library, name, *a)))
    return called


def changed(old: str, new: str) -> Callable[[Path], Path]:
    """The kernel's source with something else in it, under another name."""

    def wrong(source: Path) -> Path:
        text = source.read_text()
        assert old in text
        copy = Path(os.environ.get("TMPDIR", "/tmp")) / f"kernel-{os.getpid()}.cpp"
        copy.write_text(text.replace(old, new))
        return copy

    return wrong


def images(*shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed).contiguous(memory_format=torch.channels_last)


def mine(pool: bool, tasks: int = 1) -> Callable[..., Tensor]:
    """The kernel as a function of images, scale and shift."""

    def f(x: Tensor, *scale: Tensor) -> Tensor:
        norm = BatchNorm2d(x.shape[1], eps=EPS, affine=bool(scale)).to(x.dtype)
        for name, p in zip(("weight", "bias"), scale, strict=False):
            del norm._parameters[name]
            setattr(norm, name, p)
        return kernel.norm_pool_relu(norm, x, pool=pool, tasks=tasks)

    return f


def plain(pool: bool) -> Callable[..., Tensor]:
    def f(x: Tensor, *scale: Tensor) -> Tensor:
        y = torch.batch_norm(x, *(scale or (None, None)), None, None, True, 0.0, EPS, False)
        return F.relu(F.max_pool2d(y, 2) if pool else y)

    return f


def check(pool: bool, *inputs: Tensor, atol: float = 1e-10, rtol: float = 1e-8) -> None:
    """The gradient that arrives depends on the output, so that its own derivative counts."""
    ours, torchs = ((lambda *a, f=f: (f(pool)(*a) + 0.3).pow(3)) for f in (mine, plain))
    found, wanted = derivatives(ours, inputs), derivatives(torchs, inputs)
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        torch.testing.assert_close(a, b, atol=atol, rtol=rtol, msg=lambda m, i=i: f"{i}: {m}")


def scales(channels: int) -> tuple[Tensor, Tensor]:
    """Of every sign, and one of 0."""
    gamma = draw(channels, seed=3)
    gamma[:3] = torch.tensor([-1.5, 1.5, 0.0])
    return gamma, draw(channels, seed=4)


@needs_compiler
@plants("the kernel's curvature 2ab", "models.kernel:_SOURCE", changed("3 * a * b", "2 * a * b"))
@plants("the kernel's smallest for its largest", "models.kernel:_SOURCE", changed("sign * next", "next"))
@plants("the kernel forgets the last row", "models.kernel:_SOURCE", changed("if (h % K) f(", "if (h < 0) f("))
@plants("the kernel's shift of the second derivative", "models.kernel:_SOURCE", changed("- of_gy * g_mean", ""))
@plants("the kernel's derivative by γ", "models.kernel:_SOURCE", changed("rk * (cov - a * b)", "rk * cov"))
@plants(
    "the kernel's cotangent of Σ gy x̂", "models.kernel:_SOURCE", changed("(vk - scale * b) * rk", "-scale * b * rk")
)
@plants("the kernel's cotangent of Σ gy", "models.kernel:_SOURCE", changed("? (double)v_beta[k] : 0.0", "? 0.0 : 0.0"))
@plants(
    "ReLU forgotten on the way back", "models.kernel:_SOURCE", changed("load(y + at) <= 0 ?", "load(y + at) > 9e9 ?")
)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_equal_those_of_the_operators(
    compiled: list[str], shape: tuple[int, ...], pool: bool, affine: bool
) -> None:
    """Odd sizes, negative and zero γ, one window, images of one block and of several."""
    check(pool, images(*shape) + 0.7, *(scales(shape[1]) if affine else ()))
    assert set(compiled) == {"forward", "backward", "second"}


@needs_compiler
@plants("several winners of a window", "models.kernel:_SOURCE", changed("free &= ~here;", ""))
@plants("the last of equals wins", "models.kernel:_SOURCE", changed("(v > value)", "(v >= value)"))
def test_equal_pixels_of_a_window(compiled: list[str]) -> None:
    """The first of them has the gradient, as in PyTorch; a constant channel, whose variance is 0, too."""
    x = images(3, 16, 7, 9).mul(1.2).round()
    x[:, 4] = 1000.0
    check(True, x, *scales(16))
    check(False, x, *scales(16))


@needs_compiler
@pytest.mark.parametrize("pool", [False, True])
def test_a_channel_of_one_number(compiled: list[str], pool: bool) -> None:
    size = 2 if pool else 1
    x = images(1, 8, 1, 1).expand(1, 8, size, size).contiguous(memory_format=torch.channels_last)
    check(pool, x, *scales(8))


@needs_compiler
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_derivatives_by_finite_differences(compiled: list[str], pool: bool, affine: bool) -> None:
    given = (images(2, 8, 3, 2), *(scales(8) if affine else ()))
    if affine:
        given[1][2] = 0.5  # at γ = 0 the function of γ has a kink
    inputs = tuple(t.requires_grad_() for t in given)
    assert torch.autograd.gradcheck(mine(pool), inputs)
    assert torch.autograd.gradgradcheck(mine(pool), inputs)


@needs_compiler
@plants("each batch takes the statistics of the first", "models.kernel:_SOURCE", changed("mean + t * c", "mean"))
@plants("a γ of many batches learns from the last", "models.kernel:_SOURCE", changed("g_gamma + t * c", "g_gamma"))
@pytest.mark.parametrize("pool", [False, True])
def test_many_batches_are_batch_after_batch(compiled: list[str], pool: bool) -> None:
    """In value, first and second derivative; those by γ and β are sums over the batches."""
    x, scale = images(6, 8, 5, 4), scales(8)

    def at_once(x: Tensor, *scale: Tensor) -> Tensor:
        return mine(pool, tasks=3)(x, *scale).pow(3)

    def one_by_one(x: Tensor, *scale: Tensor) -> Tensor:
        return torch.cat([plain(pool)(part, *scale) for part in x.chunk(3)]).pow(3)

    for a, b in zip(derivatives(at_once, (x, *scale)), derivatives(one_by_one, (x, *scale)), strict=True):
        torch.testing.assert_close(a, b)
    assert set(compiled) == {"forward", "backward", "second"}


@needs_compiler
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_where_only_some_inputs_learn(compiled: list[str], wanted: tuple[int, ...]) -> None:
    given = (images(3, 8, 5, 4), *scales(8))

    def some(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def of(*learnt: Tensor) -> Tensor:
            found = dict(zip(wanted, learnt, strict=True))
            return f(*(found.get(i, t) for i, t in enumerate(given))).pow(3)

        return of

    inputs = tuple(given[i] for i in wanted)
    for a, b in zip(derivatives(some(mine(True)), inputs), derivatives(some(plain(True)), inputs), strict=True):
        torch.testing.assert_close(a, b)


@needs_compiler
@plants(
    "given statistics taken for the batch's", "models.kernel:_shape", lambda f: lambda x, p, g, t: f(x, p, False, t)
)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("pool", [False, True])
def test_given_statistics(compiled: list[str], pool: bool, affine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a support set, which have gradients too; the model with and without the kernel."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = BatchNorm2d(8, affine=affine)

        def forward(self, x: Tensor) -> Tensor:
            return kernel.norm_pool_relu(self.norm, x, pool=pool)

    model = nn.Sequential(OrderedDict(body=Block(), head=nn.Flatten())).double()
    names = [n for n, _ in model.named_parameters()]

    def f(x: Tensor, support: Tensor, *weights: Tensor) -> Tensor:
        slow = dict(zip(names, weights, strict=True))
        found = batch_statistics(model, slow, {}, support[None])
        return forward(model, slow, {}, x[None], statistics=found, create_graph=True)[0]

    inputs = (images(2, 8, 5, 4), images(3, 8, 4, 6, seed=5), *(scales(8) if affine else ()))
    found = derivatives(f, inputs)
    assert compiled == ["forward", "backward", "second"]
    monkeypatch.setattr(kernel, "_found", WITHOUT)
    for a, b in zip(found, derivatives(f, inputs), strict=True):
        torch.testing.assert_close(a, b)
    assert len(compiled) == 3


@needs_compiler
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_float32_is_as_near_to_float64_as_the_operators(compiled: list[str], pool: bool, shift: float) -> None:
    """Catches: a variance by the difference of two large numbers."""
    x = (images(5, 32, 21, 21) + shift).float()
    inputs = (x.double(), *scales(32))
    right = derivatives(plain(pool), inputs)
    x, *scale = (t.float() for t in inputs)
    for a, b, c in zip(*(derivatives(f(pool), (x, *scale)) for f in (mine, plain)), right, strict=True):
        error, allowed, size = (a - c).norm(), (b - c).norm(), c.norm()
        assert error <= 2 * allowed + 2e-6 * size
    assert a.dtype == torch.float32


@needs_compiler
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_stay_visible(compiled: list[str], bad: float) -> None:
    x = images(2, 8, 4, 4)
    x[1, 3, 2, 1] = bad
    for pool in (False, True):
        torch.testing.assert_close(mine(pool)(x), plain(pool)(x), equal_nan=True)


@needs_compiler
def test_the_number_of_threads_does_not_matter(compiled: list[str]) -> None:
    inputs = (images(5, 16, 9, 11), *scales(16))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = derivatives(mine(True), inputs)
        torch.set_num_threads(2)
        two = derivatives(mine(True), inputs)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, one, two))


@needs_compiler
def test_two_python_threads(fresh: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use is at once in both; neither sees half a library."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(cache))
    given = [(images(4, 16, 8, 8, seed=i), *scales(16)) for i in range(4)]
    found: dict[int, list[Tensor]] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: derivatives(mine(True), given[i])})) for i in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert kernel.kernel_status().state == "compiled"
    for i in range(4):
        for a, b in zip(found[i], derivatives(plain(True), given[i]), strict=True):
            torch.testing.assert_close(a, b)


class Own(Tensor):
    pass


def with_hook(norm: BatchNorm2d) -> BatchNorm2d:
    norm.register_forward_hook(lambda *_: None)
    return norm


X = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)


@needs_compiler
@pytest.mark.parametrize(
    ("x", "norm"),
    [
        (X[:, :12].contiguous(memory_format=torch.channels_last), BatchNorm2d(12)),
        (X.contiguous(), BatchNorm2d(16)),
        (X.bfloat16(), BatchNorm2d(16).bfloat16()),
        (X.as_subclass(Own), BatchNorm2d(16)),
        (X.double(), BatchNorm2d(16, affine=False).requires_grad_()),
        (X, with_hook(BatchNorm2d(16))),
        (X[:, :, :1], BatchNorm2d(16)),
        (X.to("meta"), BatchNorm2d(16).to("meta")),
    ],
    ids=["12 channels", "layout", "bfloat16", "subclass", "float64", "hook", "too small to pool", "meta"],
)
def test_what_the_kernel_does_not_serve(compiled: list[str], x: Tensor, norm: BatchNorm2d) -> None:
    pool = x.shape[2] > 1
    y = kernel.norm_pool_relu(norm, x, pool=pool)
    assert compiled == (["forward"] if x.dtype == torch.float64 else [])
    if not x.is_meta:
        n = norm(x)
        torch.testing.assert_close(y, torch.relu(F.max_pool2d(n, 2) if pool else n))


@needs_compiler
def test_vmap_and_forward_derivatives_go_the_plain_way(compiled: list[str]) -> None:
    norm = BatchNorm2d(16)
    many = torch.stack([X, 2 * X])
    ours = torch.vmap(lambda x: kernel.norm_pool_relu(norm, x, pool=True))(many)
    one = [torch.relu(F.max_pool2d(norm(x), 2)) for x in many]
    torch.testing.assert_close(ours, torch.stack(one))
    torch.func.grad(lambda x: kernel.norm_pool_relu(norm, x, pool=True).sum())(X)
    assert compiled == []


# ---- how it comes to be there


def status(monkeypatch: pytest.MonkeyPatch, **environment: str) -> kernel.KernelStatus:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kernel, "_found", None)
    found = kernel.kernel_status()
    if found.state != "compiled":
        torch.testing.assert_close(mine(True)(X), plain(True)(X))
    return found


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def copier(path: Path, library: Path) -> str:
    """A compiler that has the library ready."""
    return script(path, f'case "$*" in -shared*) cp {library} kernel.so;; esac')


def made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, compiled once a session."""
    assert status(monkeypatch, INNERLOOP_CACHE=str(cache)).state == "compiled"
    (file,) = (cache / "kernel").glob("*.so")
    return file


def test_it_can_be_turned_off(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = status(monkeypatch, INNERLOOP_KERNEL="0", INNERLOOP_CACHE=str(tmp_path))
    assert found.state == "off"
    assert "INNERLOOP_KERNEL" in found.reason
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    found = status(monkeypatch, PATH=str(tmp_path / "nothing"), INNERLOOP_CACHE=str(tmp_path / "cache"))
    assert (found.state, "c++" in found.reason) == ("missing", True)


@pytest.mark.parametrize(
    "text",
    [
        "echo 'no such header' >&2; exit 1",
        "echo garbage > kernel.o; echo garbage > kernel.so",
        "echo 'int x;' > other.c; cc -shared other.c -o kernel.so",
        "exit 0",
        "kill -9 $$",
    ],
    ids=["fails", "writes garbage", "writes another library", "writes nothing", "is killed"],
)
def test_a_broken_compiler(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    where = tmp_path / "cache"
    found = status(monkeypatch, CXX=script(tmp_path / "cxx", text), INNERLOOP_CACHE=str(where))
    assert found.state == "missing"
    (note,) = (where / "kernel").iterdir()
    again = status(monkeypatch, CXX=script(tmp_path / "cxx", "touch tried; exit 1"))
    assert again.state == "missing"
    assert str(note) in again.reason
    os.utime(note, (0, 0))  # long ago
    status(monkeypatch, CXX=script(tmp_path / "cxx", f"touch {tmp_path / 'tried'}; exit 1"))
    assert (tmp_path / "tried").exists()


@needs_compiler
@plants("the library is taken unchecked", "models.kernel:_check", lambda right: lambda library: None)
def test_a_library_that_computes_something_else(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, wrong = changed("3 * a * b", "2 * a * b")(kernel._SOURCE), tmp_path / "wrong.so"
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    subprocess.run([compiler, *kernel._FLAGS, "-O0", "-w", "-shared", str(source), "-o", str(wrong)], check=True)
    found = status(monkeypatch, CXX=copier(tmp_path / "cxx", wrong), INNERLOOP_CACHE=str(tmp_path))
    assert (found.state, "other numbers" in found.reason) == ("missing", True)
    assert not list((tmp_path / "kernel").glob("*.so"))


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:100])


def share(file: Path) -> None:
    file.chmod(0o777)


def link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere.so")
    file.symlink_to(file.parent.parent / "elsewhere.so")


@needs_compiler
@plants("a broken library is loaded", "models.kernel:_is_ours", lambda right: lambda file: True)
@pytest.mark.parametrize("change", [damage, share, link])
def test_a_file_that_is_not_as_we_left_it_is_made_anew(
    fresh: None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    library, folder = made(cache, monkeypatch), tmp_path / "kernel"
    folder.mkdir(mode=0o700)
    shutil.copy2(library, folder)
    change(folder / library.name)
    loaded: list[str] = []
    monkeypatch.setattr(
        kernel, "ctypes", SimpleNamespace(**{**vars(ctypes), "CDLL": lambda f: loaded.append(f) or ctypes.CDLL(f)})
    )
    found = status(monkeypatch, CXX=copier(tmp_path / "cxx", library), INNERLOOP_CACHE=str(tmp_path))
    assert found.reason.startswith("in ")
    assert all(Path(f).name == "kernel.so" for f in loaded)
    assert any(kernel._is_ours(f) for f in folder.glob("*.so"))


@needs_compiler
def test_the_library_of_a_wheel_is_taken_where_its_instructions_are(
    fresh: None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler or a folder; a processor without AVX2 would be stopped by it."""
    status(monkeypatch, INNERLOOP_CACHE=str(cache))
    monkeypatch.setattr(kernel, "_SHIPPED", next(iter((cache / "kernel").glob("*.so"))))
    monkeypatch.setattr(kernel, "_folder", lambda: pytest.fail("a folder was made"))
    assert status(monkeypatch) == kernel.KernelStatus("compiled", "as it came with the package")
    monkeypatch.setattr(kernel, "_folder", lambda: tmp_path)
    monkeypatch.setattr(kernel.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert "package" not in status(monkeypatch, INNERLOOP_CACHE=str(cache)).reason


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="of other processors")
@pytest.mark.parametrize("kind", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_each_width_of_vectors_gives_the_same_numbers(
    kind: str, cache: Path, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of 16, 32 and 64 bytes hold channels side by side, which never meet: all derivatives are as they were."""
    here = torch.backends.cpu.get_cpu_capability()
    if (kind[-2:], here) in (("v4", "AVX2"), ("v4", "DEFAULT"), ("v3", "DEFAULT")):
        pytest.skip("this processor has no such instructions")
    monkeypatch.setattr(kernel, "_NATIVE", f"-march={kind}")
    monkeypatch.setattr(kernel, "_check", lambda library: None)
    assert f"-march={kind} " in status(monkeypatch, INNERLOOP_CACHE=str(tmp_path)).reason
    for shape in SHAPES:
        check(True, images(shape[0], 16, *shape[2:]), *scales(16))


@plants(
    "a folder of others is taken",
    "models.kernel:stat",
    lambda stat: SimpleNamespace(**{**vars(stat), "S_IMODE": lambda mode: 0}),
)
@pytest.mark.parametrize("place", ["kernel", "."])
def test_a_folder_that_others_can_write_to(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "kernel").mkdir(mode=0o700)
    (tmp_path / place).chmod(0o777)
    found = status(monkeypatch, INNERLOOP_CACHE=str(tmp_path))
    assert (found.state, str(tmp_path / place) in found.reason) == ("missing", True)
    assert not list((tmp_path / "kernel").iterdir())


def test_a_folder_of_somebody_else(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.os, "getuid", lambda: 54321)
    assert status(monkeypatch, INNERLOOP_CACHE=str(tmp_path)).state == "missing"


def test_no_folder_can_be_made(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert status(monkeypatch, INNERLOOP_CACHE=str(tmp_path / "file")).state == "missing"


@needs_compiler
def test_two_processes_compile_at_once(
    fresh: None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have a correct library, and say so in one line on stderr."""
    slow = script(tmp_path / "slow", f'sleep 0.3; exec {copier(tmp_path / "cxx", made(cache, monkeypatch))} "$@"')
    monkeypatch.setenv("CXX", slow)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel, "_found", None)
    folders = [tmp_path / "one", tmp_path / "other"]
    assert all_of([lambda: print(kernel.kernel_status().state) or 0] * 2, folders) == [0, 0]
    for folder in folders:
        said = folder.with_name(f"{folder.name}.log").read_text().splitlines()
        assert said.count("compiled") == 1
        assert len(said) <= 2
    (file,) = (tmp_path / "kernel").iterdir()
    assert kernel._is_ours(file)


@needs_compiler
@plants(
    "the kernel forgets γ",
    "models.kernel:_SOURCE",
    changed("g_beta[k] = a, g_gamma[k] = b", "g_beta[k] = a"),
)
@pytest.mark.parametrize("blocks", ["all", "head"])
@pytest.mark.parametrize("downsample", ["stride", "max_pool"])
def test_a_training_ends_alike(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch, blocks: Any, downsample: Any
) -> None:
    """Four steps of MAML and of ANIL, with and without the kernel: the same scores, and weights equal to rounding.

    In float64: in float32 a ReLU near its edge falls to the other side, and trainings part.
    """
    ends = []
    for found in (kernel._kernel(), WITHOUT):
        monkeypatch.setattr(kernel, "_found", found)
        before = len(compiled)
        model = conv4(
            3, image_size=16, filters=16, downsample=downsample, generator=torch.Generator().manual_seed(0)
        ).double()
        weights, inner = slow_weights(model), InnerLoop(blocks=blocks, steps=2, lr=0.1)
        optimizer, scores = torch.optim.Adam(weights.values(), lr=1e-2), []
        for step in range(4):
            e = ImageTasks(blobs(), 3, 1, 2).sample(2, torch.Generator().manual_seed(step))
            e = replace(e, support_x=e.support_x.double(), query_x=e.query_x.double())
            made = meta_gradient(predictor(model, inner), weights, e, cross_entropy, accuracy, task_chunk=1)
            outer_step(optimizer, weights, made.gradient, OuterLoop(lr=1e-2), step)
            scores.append(made.score)
        ends.append((torch.stack(scores), weights))
        assert (len(compiled) > before) == (found is not WITHOUT)
    (scores, weights), (other_scores, others) = ends
    torch.testing.assert_close(scores, other_scores, rtol=0, atol=0)
    for n, w in weights.items():
        torch.testing.assert_close(w, others[n], rtol=1e-6, atol=1e-7)
