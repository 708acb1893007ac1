"""A pickle from a stranger cannot run anything."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.places import DataCorrupt
from innerloop.data.unpickle import unpickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_come_through(protocol: int) -> None:
    value = {
        "image_data": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "strided": np.arange(24)[::3],
        "fortran": np.asfortranarray(np.eye(3)),
        "class_dict": collections.OrderedDict(a=[0, 1], b=np.array([2])),
        "scalar": np.int64(3),
        "text": "ü",
        "swapped": np.arange(3, dtype=">i4"),
        "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        "words": np.array([["ü", "abc"]]),
        "bytes": np.array([b"x", b"abc"]),
        "truth": np.array([True, False]),
        "empty": np.zeros((0, 3), np.uint8),
        "raw": [b"", b"\0\xff"],
        "default": collections.defaultdict(list, x=[1]),
    }
    back = unpickle(pickle.dumps(value, protocol), "x")
    for key, expected in value.items():
        np.testing.assert_equal(back[key], expected)


def test_a_pickle_of_python_2_comes_through() -> None:
    """Written out as Python 2 did: byte strings, numpy.core, the dtype as a byte string."""
    content = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x03\x01\x02\xfftbs."
    )
    assert unpickle(content, "x")["data"].tolist() == [1, 2, 255]


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(DataCorrupt, match=r"evil\.pkl is refused .* names (posix|nt)\.system"):
            unpickle(pickle.dumps({"data": Touch(mark)}, protocol), "evil.pkl")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "numpy load", "numpy.testing measure"])
def test_no_other_name_is_given_out(name: str) -> None:
    module, attribute = name.split()
    with pytest.raises(DataCorrupt, match="which no file of images needs"):
        unpickle(f"c{module}\n{attribute}\n.".encode(), "x")


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2, 3])[:-3], b"\x80\x05\x95"])
def test_a_broken_pickle_is_one_error(content: bytes) -> None:
    with pytest.raises(DataCorrupt, match=r"^x is refused"):
        unpickle(content, "x")
