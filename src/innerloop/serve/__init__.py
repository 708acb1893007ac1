"""A classifier on a web page: `innerloop serve`."""

try:
    import fastapi as _fastapi  # noqa: F401
    import python_multipart as _multipart  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError:
    raise ImportError("serve needs more packages: pip install 'innerloop[serve,pretrained]'") from None

from innerloop.serve.app import Limits, application

__all__ = ["Limits", "application"]
