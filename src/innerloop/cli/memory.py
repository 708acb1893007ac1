"""Memory that big tensors have freed stays with the process: the next ones need no fresh pages from the system.

glibc gives every block of 32 MiB and more back at once, and each new one costs a page fault for every 4 KiB. A
meta-step allocates such blocks all the time; ``benchmarks/freed_memory.py`` has what keeping them saves.
"""

import ctypes
import os
import sys

SETTINGS = ("GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Environment variables of glibc; whoever sets one of them is obeyed, and nothing is changed."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
_LARGEST = 2**31 - 1  # bytes: free memory above this is given back


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep up to 2 GiB that were freed; True if it does so.

    False, with nothing changed, on another system or C library, or if one of `SETTINGS` is set.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SETTINGS):
        return False
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version  # another C library has none, and its mallopt does nothing
        mallopt = library.mallopt
    except (AttributeError, OSError):
        return False
    return mallopt(_TRIM_THRESHOLD, _LARGEST) == 1 and mallopt(_MMAP_MAX, 0) == 1
