"""A pickle from a stranger cannot run anything."""

import collections
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.paths import DataCorrupt
from innerloop.data.unpickle import unpickle
from naming import names


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
        with pytest.raises(DataCorrupt, match=names("evil.pkl", f"{os.system.__module__}.system")):
            unpickle(pickle.dumps({"data": Touch(mark)}, protocol), "evil.pkl")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "numpy load", "numpy.testing measure"])
def test_no_other_name_is_given_out(name: str) -> None:
    module, attribute = name.split()
    with pytest.raises(DataCorrupt, match=names("x", f"{module}.{attribute}")):
        unpickle(f"c{module}\n{attribute}\n.".encode(), "x")


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2, 3])[:-3], b"\x80\x05\x95"])
def test_a_broken_pickle_is_one_error(content: bytes) -> None:
    with pytest.raises(DataCorrupt, match=names("x")):
        unpickle(content, "x")


def test_a_pickle_of_python_2_in_its_oldest_protocol_comes_through() -> None:
    """All of it text, bytes as escapes; a dtype used twice is the one whose byte order was set."""
    content = (
        b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\ntRp5\n"
        b"(I1\n(I2\ntp6\ncnumpy\ndtype\np7\n(S'i2'\nI0\nI1\ntRp8\n(I3\nS'>'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x01\\x00\\xff\\xfe'\ntbsS'again'\ng2\n(g3\n(I0\ntS'b'\ntR(I1\n(I1\ntg8\nI00\nS'\\x00\\x07'\ntbs"
        b"S'names'\nccollections\nOrderedDict\n((lp9\n(lp10\nS'n\\xe9'\naI5\naatRs."
    )
    found = unpickle(content, "x")
    assert found["data"].tolist() == [256, -2]
    assert found["again"].tolist() == [7]
    assert found["names"] == {"né": 5}


@pytest.mark.parametrize("core", ["core", "_core"])
def test_both_spellings_of_numpy_come_through(core: str) -> None:
    content = pickle.dumps({"data": np.arange(6, dtype=np.uint8)}, 2).replace(b"numpy._core", f"numpy.{core}".encode())
    assert unpickle(content, "x")["data"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_long_list_takes_fewer_steps_than_are_allowed() -> None:
    """CIFAR-100 has 50,000 names, each with a memo, and as many labels, here as NumPy's numbers."""
    names = [f"{i:06}.png" for i in range(50_000)]
    labels = list(np.arange(50_000))
    for protocol in (0, 2, 5):
        assert unpickle(pickle.dumps([names, labels], protocol), "x") == [names, labels]


@pytest.mark.parametrize("code", ["O", "O8", "V8", "M8", "m8", "S0", "u1,O", "(2,)u1", "T", "u9999999"])
def test_a_dtype_is_numbers_or_text(code: str) -> None:
    content = b"cnumpy\ndtype\n(" + b"X" + len(code).to_bytes(4, "little") + code.encode() + b"\x89\x88tR."
    with pytest.raises(DataCorrupt, match=names("x")):
        unpickle(content, "x")


@pytest.mark.parametrize(
    "state",
    [
        (3, "|", None, ("a",), {"a": (1, 0)}, 8, 1, 0),
        (3, "|", ("u1", (2,)), None, None, 2, 1, 0),
        (3, "<", None, None, None, 800, 1, 0),
        (4, "<", None, None, None, -1, -1, 0, {}),
        (3, "x", None, None, None, -1, -1, 0),
        (3, "<"),
    ],
)
def test_of_a_dtype_only_the_byte_order_changes(state: tuple[object, ...]) -> None:
    content = b"cnumpy\ndtype\n(X\x02\0\0\0u8\x89\x88tR" + pickle.dumps(state, 1)[:-1] + b"b."
    with pytest.raises(DataCorrupt, match=names("x")):
        unpickle(content, "x")


def test_what_is_quoted_is_cut() -> None:
    with pytest.raises(DataCorrupt) as caught:
        unpickle(b"c" + b"m" * 100_000 + b"\nx\n.", "x")
    assert len(str(caught.value)) < 500
