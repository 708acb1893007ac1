"""Packages of the extra `rl`, imported when they are needed."""

import importlib
import os
from types import ModuleType

from innerloop.errors import InnerloopError


def need(package: str) -> ModuleType:
    """The package, or a ValueError that says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != package.split(".")[0]:
            raise  # the package is there, something that it needs is not
        raise InnerloopError(f"this needs the package {package.split('.')[0]!r}: pip install 'innerloop[rl]'") from None
    except Exception as error:  # MuJoCo loads what MUJOCO_GL names when it is imported
        name, gl = package.split(".")[0], os.environ.get("MUJOCO_GL")
        advice = (
            f"; MUJOCO_GL={gl} asks for an OpenGL that is not here: install it, set another (egl, osmesa), or unset it "
            "(only films need one)"
        )
        what = f"the package {name!r} fails when it is imported ({type(error).__name__}: {error})"
        raise InnerloopError(what + (advice if gl else "")) from None
