"""Normalise → 2×2 max-pool → ReLU as one kernel for the CPU, with its first and second derivative.

The kernel is `kernel.cpp`. A wheel for a platform has it compiled; else it is compiled at first use for the processor
at hand and kept in the user's cache folder. Where it cannot be had (no compiler, another device, type or memory layout)
PyTorch's own operators compute the same, to rounding. ``INNERLOOP_KERNEL=0`` turns it off; `kernel_status` says which
of these holds.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from innerloop.core.functional import Normalise, one_derivative
from innerloop.models.function import transformed
from innerloop.models.normalisation import BatchNorm2d
from innerloop.version import __version__

SMALLEST = {(1, False): 2**18, (1, True): 2**15, (2, False): 2**12, (2, True): 2**12}
"""(how often a pass is differentiated, whether it pools) -> numbers in its input below which the kernel does not pay"""

_SOURCE = Path(__file__).with_name("kernel.cpp")
_SHIPPED = Path(__file__).with_name("kernel.so")
"""in wheels for a platform (hatch_build.py)"""
_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fvisibility=hidden"]
_NATIVE, _OPENMP = "-march=native", "-fopenmp"
_AGAIN = 24 * 3600
"""seconds after which a compiler that failed is tried again"""


@dataclass(frozen=True)
class KernelStatus:
    """Which of the three holds, and why."""

    state: Literal["compiled", "missing", "off"]
    """compiled: the kernel is used; missing: it cannot be had; off: it is turned off"""
    reason: str


def kernel_status() -> KernelStatus:
    """Whether the kernel is used in this process; compiles it if that was not yet tried."""
    return _kernel()[1]


def norm_pool_relu(norm: BatchNorm2d, x: Tensor, *, pool: bool, tasks: int = 1) -> Tensor:
    """ReLU of the (2×2 max-pooled) normalised images [n, channels, h, w] -> [n, channels, h', w'].

    ReLU follows the pooling: both are monotone, so the order does not change the function, and there are four times
    fewer numbers. The statistics come from the batch, or are those that `core.functional.forward` was given. The images
    are `tasks` batches of equal size, one after the other, each with statistics of its own; then scale and shift may
    have a task axis.
    """
    given = vars(norm).get("forward")
    if _suits(norm, x, given, pool) and (library := _kernel()[0]) is not None:
        scale = (norm.weight, norm.bias) if given is None else given.scale_and_shift()
        gamma, beta = (None if p is None else p.contiguous() for p in scale)
        return _NormPoolReLU.apply(x, gamma, beta, norm.eps, pool, given is not None, tasks, library)  # pyright: ignore[reportReturnType]
    x = norm(x) if tasks == 1 else norm.forward_tasks(x.unflatten(0, (tasks, -1))).flatten(0, 1)
    return torch.relu(F.max_pool2d(x, 2) if pool else x)


def _suits(norm: BatchNorm2d, x: Tensor, given: Any, pool: bool) -> bool:
    return (
        torch._C._get_tracing_state() is None  # of which even the sizes are tensors
        and x.numel() >= SMALLEST[1 if one_derivative() else 2, pool]
        and (given is None or (isinstance(given, Normalise) and given.given is not None))
        and not transformed()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.ndim == 4
        and x.shape[1] % (64 // x.element_size()) == 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and (not pool or min(x.shape[2:]) >= 2)
        and all(
            p is None or (p.dtype == x.dtype and p.ndim == 1)
            for p in (norm.weight, norm.bias, *(given.given or () if given else ()))
        )
        and type(norm).forward is BatchNorm2d.forward
        and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)
        and forward_ad._current_level < 0
        and not torch.compiler.is_compiling()
    )


def _empty(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _scratch(x: Tensor) -> Tensor:
    return torch.empty(3 * (x.shape[0] + 3) * x.shape[1], dtype=torch.float64)


def _shape(x: Tensor, pool: bool, given: bool, tasks: int) -> tuple[int, ...]:
    n, c, h, w = x.shape
    return tasks, n // tasks, h, w, c, pool, given, torch.get_num_threads()


def _call(library: Any, name: str, x: Tensor, *args: Any) -> None:
    function = getattr(library, f"{name}_float32" if x.dtype is torch.float32 else f"{name}_float64")
    function(*(a.data_ptr() if isinstance(a, Tensor) else a for a in args))


class _NormPoolReLU(torch.autograd.Function):
    """y = max(0, γ ẑ + β), with z the winner of each window of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float, *how: Any) -> Tensor:
        pool, given, tasks, library = how
        n, c, h, w = x.shape
        y = _empty(x, n, c, h // 2, w // 2) if pool else torch.empty_like(x)
        z = torch.empty_like(y) if pool else x
        shape = tasks, c
        mean, r = (x.new_zeros(shape), x.new_ones(shape)) if given else (x.new_empty(shape), x.new_empty(shape))
        _call(library, "forward", x, x, gamma, beta, *_shape(x, pool, given, tasks), eps, _scratch(x), z, y, mean, r)
        ctx.how = how
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, z, y, gamma, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        if g is None:
            return (None,) * 8
        x, z, y, gamma, mean, r = ctx.saved_tensors
        args = g, x, gamma, z.detach(), y.detach(), mean, r, ctx.how
        found = _Backward.apply(*args) if torch.is_grad_enabled() else _backward(*args)[:3]
        return *(f if need else None for f, need in zip(found, ctx.needs_input_grad, strict=False)), *(None,) * 5


def _backward(
    g: Tensor, x: Tensor, gamma: Tensor | None, z: Tensor, y: Tensor, mean: Tensor, r: Tensor, how: Any
) -> tuple[Tensor, ...]:
    """γ J(gy), Σ gy x̂ and Σ gy; mean(gy) and mean(gy x̂) task by task; and g in the memory layout of the kernel."""
    pool, given, tasks, library = how
    g = g.contiguous(memory_format=torch.channels_last)
    gx, g_gamma, g_beta = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)
    sums = torch.empty(2, *mean.shape, dtype=torch.float64)
    args = g, x, z, y, gamma, mean, r, *_shape(x, pool, given, tasks), _scratch(x), sums, gx, g_gamma, g_beta
    _call(library, "backward", x, *args)
    return gx, g_gamma.sum(0), g_beta.sum(0), sums, g


class _Backward(torch.autograd.Function):
    """(g, x, γ) -> γ J(gy), Σ gy x̂, Σ gy"""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, gamma: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
        *found, sums, g = _backward(g, x, gamma, *rest)
        *kept, ctx.how = rest
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, gamma, *kept, sums)
        return tuple(found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        v, v_gamma, v_beta = grads
        g, x, gamma, z, y, mean, r, sums = ctx.saved_tensors
        pool, given, tasks, library = ctx.how
        v = torch.zeros_like(x) if v is None else v.contiguous(memory_format=torch.channels_last)
        v_gamma, v_beta = (None if p is None else p.contiguous() for p in (v_gamma, v_beta))
        d_g, d_x, d_gamma = torch.empty_like(y), torch.empty_like(x), torch.empty_like(mean)
        args = v, v_gamma, v_beta, g, x, z, y, gamma, mean, r, sums
        _call(library, "second", x, *args, *_shape(x, pool, given, tasks), _scratch(x), d_g, d_x, d_gamma)
        need = ctx.needs_input_grad
        return *(f if n else None for f, n in zip((d_g, d_x, d_gamma.sum(0)), need, strict=False)), *(None,) * 5


# ---- the compiled library


class _Missing(Exception):
    """Why there is no kernel."""


_lock = threading.Lock()
_found: tuple[Any, KernelStatus] | None = None


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when this process was forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _kernel() -> tuple[Any, KernelStatus]:
    """The library, or None, and why."""
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                _found = _find()
    return _found


def _find() -> tuple[Any, KernelStatus]:
    if os.environ.get("INNERLOOP_KERNEL", "").lower() in ("0", "off", "no", "false"):
        return None, KernelStatus("off", f"INNERLOOP_KERNEL={os.environ['INNERLOOP_KERNEL']} turns it off")
    try:
        if os.name != "posix":
            raise _Missing(f"it is not built on {platform.system()}")
        if _SHIPPED.exists() and _has_what_it_takes():
            return _load(_SHIPPED), KernelStatus("compiled", "as it came with the package")
        folder = _folder()
        processor = _processor()
        key = [__version__, sys.platform, platform.machine(), processor, *_FLAGS, _SOURCE.read_text()]
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
        for file in sorted(folder.glob(f"{name}-*.so")):
            if _is_ours(file):
                return _load(file), KernelStatus("compiled", f"from {file}")
        return _compile(folder, name, [_NATIVE] if processor else [])
    except Exception as error:  # whatever it is: PyTorch's operators serve, and `kernel_status` says why
        return None, KernelStatus("missing", str(error) or type(error).__name__)


def _has_what_it_takes() -> bool:
    """Whether this processor has the instructions of a wheel's library."""
    return platform.machine() != "x86_64" or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _folder() -> Path:
    """The user's own folder for the library; nobody else may be able to write to it, or to put another in its place."""
    folder = Path(os.environ.get("INNERLOOP_CACHE") or platformdirs.user_cache_dir("innerloop")).expanduser()
    folder = folder.resolve() / "kernel"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in (folder, *folder.parents):
        found = place.lstat()
        shared = stat.S_IMODE(found.st_mode) & 0o022
        sticky = found.st_mode & stat.S_ISVTX and place != folder
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.getuid(), 0) or (shared and not sticky):
            raise _Missing(f"others can write to {place}, so that no compiled code is kept in {folder}")
    if folder.stat().st_uid != os.getuid():
        raise _Missing(f"{folder} belongs to somebody else")
    return folder


def _processor() -> str:
    """What decides which instructions the compiler may take; nothing where it cannot be told."""
    if sys.platform == "darwin":
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n")[0] if info.exists() else ""
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "isa", "cpu\t")
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def _is_ours(file: Path) -> bool:
    """Whether it is whole, as its name says, and nobody else's."""
    found = file.lstat()
    mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return mine and file.stem.endswith("-" + _hash(file))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def _compile(folder: Path, name: str, native: list[str]) -> tuple[Any, KernelStatus]:
    asked = shlex.split(os.environ.get("CXX", ""))
    compiler = asked or [found for c in ("c++", "g++", "clang++") if (found := shutil.which(c))][:1]
    if not compiler:
        raise _Missing("there is no C++ compiler (c++, g++, clang++, or what CXX names)")
    failed = folder / f"{name}-{hashlib.sha256(' '.join(compiler).encode()).hexdigest()[:8]}.failed"
    if failed.exists() and time.time() - failed.stat().st_mtime < _AGAIN:
        raise _Missing(f"{failed.read_text()} (tried in the last 24 hours; delete {failed} to try again)")
    sys.stderr.write("innerloop: compiling a kernel for this processor, once (INNERLOOP_KERNEL=0 turns it off)\n")
    why = ""
    for extra in ([*native, _OPENMP], native, []):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            # linked without OpenMP's library: PyTorch's own is in the process already, and two may clash
            steps = [*_FLAGS, *extra, "-c", str(_SOURCE), "-o", "kernel.o"], ["-shared", "kernel.o", "-o", "kernel.so"]
            for step in steps:
                done = subprocess.run([*compiler, *step], cwd=work, capture_output=True, timeout=300, check=False)
                if done.returncode:
                    why = done.stderr.decode(errors="replace").strip()
                    break
            else:
                built = Path(work) / "kernel.so"
                try:
                    library = _load(built)
                    built.chmod(0o700)
                    # at once: another process sees all of it or nothing
                    file = built.replace(folder / f"{name}-{_hash(built)}.so")
                    return library, KernelStatus("compiled", f"in {file}, by {' '.join([*compiler, *extra])}")
                except (OSError, AttributeError, _Missing) as error:
                    why = str(error)
    why = f"{' '.join(compiler)} fails: {(why.splitlines() or ['it says nothing'])[0]}"
    failed.write_text(why)
    raise _Missing(why)


def _load(file: Path) -> Any:
    library = ctypes.CDLL(str(file))
    for name, (before, after) in {"forward": (3, 4), "backward": (7, 5), "second": (11, 4)}.items():
        for kind in ("float32", "float64"):
            function = getattr(library, f"{name}_{kind}")
            eps = [ctypes.c_double] if name == "forward" else []
            shape = [*[ctypes.c_long] * 5, *[ctypes.c_int] * 3]
            function.argtypes = [*[ctypes.c_void_p] * before, *shape, *eps, *[ctypes.c_void_p] * (after + len(eps))]
            function.restype = None
    _check(library)
    return library


def _check(library: Any) -> None:
    """Raise if it does not compute what PyTorch's own operators do."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for dtype, digits in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
            for pool in (False, True):
                x, v = (torch.arange(2 * 16 * 5 * 7, dtype=dtype).add(shift).square().sin() for shift in (0.5, 0.7))
                x, v = (t.view(2, 5, 7, 16).movedim(3, 1) for t in (x, v))
                gamma, beta = x[0, :, 1, 1].clone(), x[1, :, 2, 2].clone()

                def plain(x: Tensor, gamma: Tensor, beta: Tensor, pool: bool = pool) -> Tensor:
                    y = torch.batch_norm(x, gamma, beta, None, None, True, 0.0, 1e-3, False)
                    return torch.relu(F.max_pool2d(y, 2) if pool else y)

                def mine(*given: Tensor, pool: bool = pool) -> Tensor:
                    return _NormPoolReLU.apply(*given, 1e-3, pool, False, 1, library)  # pyright: ignore[reportReturnType]

                for a, b in zip(*(_derivatives(f, v, x, gamma, beta) for f in (mine, plain)), strict=True):
                    if not torch.allclose(a, b, rtol=digits, atol=digits * float(b.abs().max())):
                        raise _Missing("the compiled kernel computes other numbers than PyTorch's operators")


def _derivatives(function: Any, v: Tensor, *inputs: Tensor) -> list[Tensor]:
    """A function's value, its gradient, and the derivative of that in the direction `v` of the first input."""
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    y = function(*inputs)
    first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
    second = torch.autograd.grad((first[0] * v).sum() + (first[1] * first[2]).sum(), inputs)
    return [y.detach(), *(t.detach() for t in (*first, *second))]
