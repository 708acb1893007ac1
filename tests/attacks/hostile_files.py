"""Hostile files: archives, folders, pictures, pickles and names that a stranger may give, and what becomes of each.

    python tests/attacks/hostile_files.py          all of them: "tried N, survived N"
    python tests/attacks/hostile_files.py bomb     those whose name has "bomb" in it

Each is made in one forked child and read in another, which must end by itself, in time, with a bounded peak of memory,
and with a value (where the file is merely odd) or an error that names the file in one printable line. Nothing may be
written beside the files.
"""

import csv
import faulthandler
import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from innerloop.data.caltech101 import read_pictures as caltech
from innerloop.data.cifar import read_official as cifar
from innerloop.data.folder import Folder
from innerloop.data.mini_imagenet import read_pickles
from innerloop.data.picture import picture
from innerloop.errors import InnerloopError
from innerloop.estimator.inputs import Wanted, images
from innerloop.estimator.pictures import load_picture
from innerloop.report.gallery import Gallery, Guess, page, thumbnail
from innerloop.report.spreadsheet import csv_text

SECONDS = 120
MB = 1 << 20


@dataclass(frozen=True)
class Attack:
    """One hostile file."""

    name: str
    make: Callable[[Path], Any]
    """makes it under a folder"""
    use: Callable[[Path], Any]
    """reads it; gives whether the value is right"""
    names: str = ""
    """what the error must name; empty: the file is odd and is read"""
    memory: int = 250
    """the peak that reading may add, in MB"""
    slow: bool = False


# ---------------------------------------------------------------------------------------------------------- pickles

NONE, MARK, STOP = b"N", b"(", b"."


def glob(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def raw(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def num(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 1 << 31 else f"L{value}L\n".encode()


def tup(*items: bytes) -> bytes:
    return MARK + b"".join(items) + b"t"


def call(what: bytes, *arguments: bytes) -> bytes:
    return what + tup(*arguments) + b"R"


def set_state(what: bytes, *state: bytes) -> bytes:
    return what + tup(*state) + b"b"


NDARRAY, DTYPE = glob("numpy", "ndarray"), glob("numpy", "dtype")
RECONSTRUCT, FROM_BUFFER = glob("numpy.core.multiarray", "_reconstruct"), glob("numpy.core.numeric", "_frombuffer")
SCALAR, ENCODE = glob("numpy.core.multiarray", "scalar"), glob("_codecs", "encode")
FALSE, TRUE = b"\x89", b"\x88"
EMPTY = call(RECONSTRUCT, NDARRAY, tup(num(0)), raw(b"b"))


def dtype(code: str) -> bytes:
    return call(DTYPE, text(code), FALSE, TRUE)


def array(code: str, shape: tuple[int, ...], content: bytes, what: bytes | None = None) -> bytes:
    """An array as NumPy pickles it, of any type."""
    return set_state(EMPTY, num(1), tup(*map(num, shape)), what or dtype(code), FALSE, content)


PIXELS = array("u1", (2, 3072), raw(bytes(6144)))
FORGED = [  # a dtype that is 8 bytes wide, and has an object in it; and one whose field lies 1 GB away
    set_state(
        dtype("V8"),
        num(3),
        text("|"),
        NONE,
        tup(text("a")),
        b"}" + text("a") + tup(dtype("O" if offset == 0 else "u1"), num(offset)) + b"s",
        num(8),
        num(1),
        num(0),
    )
    for offset in (0, 10**9)
]


def train(data: bytes = PIXELS, labels: bytes = b"", files: bytes = b"", more: bytes = b"") -> bytes:
    """`train` of CIFAR-100."""
    labels = labels or b"](" + num(0) + num(1) + b"e"
    files = files or b"](" + text("a.png") + text("b.png") + b"e"
    items = text("data") + data + text("fine_labels") + labels + text("filenames") + files + more
    return b"\x80\x04}(" + items + b"u."


def in_cifar(content: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "cifar").mkdir()
        good = {"data": np.ones((1, 3072), np.uint8), "fine_labels": [1], "filenames": ["c.png"]}
        (folder / "cifar" / "test").write_bytes(pickle.dumps(good, 2))
        (folder / "cifar" / "meta").write_bytes(pickle.dumps({"fine_label_names": ["x", "y"]}, 2))
        (folder / "cifar" / "train").write_bytes(content() if callable(content) else content)

    return make


def in_mini(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "cache.pkl").write_bytes(content)


def names_only(module: str, name: str, *arguments: bytes) -> bytes:
    return train(call(glob(module, name), *arguments))


def nested(op: bytes, depth: int) -> bytes:
    return b")" + op * depth


def laughs(depth: int) -> bytes:
    """A list of two of the list before, by memo: 2^depth leaves in a few bytes each."""
    out = b"](" + num(1) + num(1) + b"eq\x00"
    for i in range(depth):
        out += b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
    return out


def laughing_key(depth: int) -> bytes:
    out = b")q\x00"
    for i in range(depth):
        out += b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return b"}" + out + num(1) + b"s"


OS = b"cposix\nsystem\n"
TOUCH = text("touch cwd/ran")
SHARED_ROWS = b"](" + num(0) * 100_000 + b"eq\x05"


def pickles() -> Iterator[tuple[str, bytes | Callable[[], bytes]]]:
    objects = call(glob("builtins", "bytearray"), raw(b"A" * 6144))
    yield "object array of the file's bytes", train(call(NDARRAY, tup(num(768)), dtype("O"), objects))
    for forged, what in zip(FORGED, ("with an object", "beyond its width"), strict=True):
        yield (
            f"dtype {what} by _frombuffer",
            train(call(FROM_BUFFER, raw(b"A" * 6144), forged, tup(num(768)), text("C"))),
        )
        yield f"dtype {what} by ndarray", train(call(NDARRAY, tup(num(768)), forged, raw(b"A" * 6144)))
        yield f"dtype {what} by __setstate__", train(array("", (768,), raw(b"A" * 6144), forged))
    yield "object array by state", train(array("O8", (768,), raw(b"A" * 6144)))
    yield "object array of a list", train(array("O", (2,), b"](" + OS + OS + b"e"))
    yield "scalar of an object", train(call(SCALAR, dtype("O"), raw(b"A" * 8)))
    yield "scalar too short", train(call(SCALAR, dtype("U5000"), raw(b"A" * 8)))
    yield "text beyond Unicode", train(call(SCALAR, dtype("U1"), raw(b"\xff" * 4)))
    yield "void array", train(array("V8", (768,), raw(b"A" * 6144)))
    yield "array of nothing, a billion times", train(array("S0", (10**9,), raw(b"")))
    yield "array larger than its bytes", train(array("u1", (2**33, 3072), raw(b"A")))
    yield "array of overflowing shape", train(array("u1", (2**62, 4), raw(b"")))
    yield "array of negative shape", train(array("u1", (-2, -3072), raw(bytes(6144))))
    yield "array of a shape that is no number", train(set_state(EMPTY, num(1), text("x"), dtype("u1"), FALSE, raw(b"")))
    yield "array filled twice", train(set_state(PIXELS, num(1), tup(num(1)), dtype("u1"), FALSE, raw(b"A")))
    yield "array not empty at first", train(call(RECONSTRUCT, NDARRAY, tup(num(1 << 30)), raw(b"b")))
    yield "memmap", names_only("numpy", "memmap", text("cwd/ran"), dtype("u1"), text("w+"))
    yield "numpy.load", names_only("numpy", "load", text("/etc/passwd"))
    yield "numpy.fromfile by a dotted name", train(b"\x8c\x05numpy\x8c\x0endarray.tofile\x93" + tup(TOUCH) + b"R")
    yield "os.system", train(OS + tup(TOUCH) + b"R")
    yield "os.system by STACK_GLOBAL", train(b"\x8c\x05posix\x8c\x06system\x93" + tup(TOUCH) + b"R")
    yield "os.system by INST", train(MARK + TOUCH + b"iposix\nsystem\n")
    yield "os.system by OBJ", train(MARK + OS + TOUCH + b"o")
    yield "os.system by NEWOBJ", train(OS + tup(TOUCH) + b"\x81")
    yield "os.system by NEWOBJ_EX", train(OS + tup(TOUCH) + b"}\x92")
    yield "eval", names_only("builtins", "eval", text("open('cwd/ran', 'w')"))
    yield "exec of Python 2", names_only("__builtin__", "execfile", text("/etc/passwd"))
    yield "getattr", names_only("builtins", "getattr", b"]", text("__class__"))
    yield "subprocess", names_only("subprocess", "Popen", TOUCH)
    yield "copyreg", names_only("copyreg", "_reconstructor", DTYPE, DTYPE, NONE)
    yield "a module that would be imported", names_only("antigravity", "x")
    yield "a name of 100,000 letters", names_only("m" * 100_000, "x")
    yield "a name with escapes of the terminal", names_only("\x1b[2J\x1b]0;owned\x07", "x")
    yield "other codecs", train(call(ENCODE, text("x"), text("punycode")))
    yield "extension opcodes", train(b"\x82\x01")
    yield "persistent ids", train(b"Pid\n")
    yield "persistent ids, binary", train(text("id") + b"Q")
    yield "buffers out of band", train(b"\x97")
    yield "an opcode that is none", train(b"\xff")
    yield (
        "attributes of a function",
        train(FROM_BUFFER + tup(NONE, b"}" + text("__defaults__") + tup(NONE) + b"s") + b"b"),
    )
    yield "attributes of a dict", train(b"}" + tup(NONE, b"}" + text("__class__") + num(1) + b"s") + b"b")
    yield "attributes of an array", train(EMPTY + b"}" + text("shape") + num(9) + b"sb")
    yield "a dtype's call", train(call(dtype("u1"), text("x")))
    yield "items of an array", train(PIXELS + num(0) + laughs(40) + b"s")
    yield "appending to an array", train(PIXELS + num(0) + b"a")
    yield "memo bomb", train(b"Nr\xff\xff\xff\x7f")
    yield "a string that claims 2^62 bytes", train(b"\x8e" + struct.pack("<Q", 1 << 62))
    yield "a bytearray that claims 2^40 bytes", train(b"\x96" + struct.pack("<Q", 1 << 40))
    yield "bytearray of 2^40", names_only("builtins", "bytearray", num(1 << 40))
    yield "a frame that claims 2^62 bytes", train(b"N\x95" + struct.pack("<Q", 1 << 62))
    yield "a number of a million digits", train(b"I" + b"9" * 10**6 + b"\n")
    yield "tuples nested a million deep", train(nested(b"\x85", 10**6))
    yield "a key nested a million deep", train(b"}" + nested(b"\x85", 10**6) + num(1) + b"s")
    yield "a key hashed 2^100 times", train(laughing_key(100))
    yield "lists nested 200,000 deep", train(files=b"]" * 200_000 + b"a" * 199_999)
    yield "billion laughs as pixels", train(laughs(100))
    yield "billion laughs as labels", train(labels=laughs(100))
    yield "billion laughs as names", train(files=laughs(100))
    yield "a list in itself", train(files=b"]q\x00h\x00a")
    yield "three million dicts", lambda: train(more=text("x") + MARK + b"}" * 3_000_000 + b"l")
    yield "marks without end", lambda: train(MARK * 3_000_000)
    yield (
        "copies of copies",
        train(
            text("x" * 10**6)
            + b"q\x00"
            + text("latin1")
            + b"q\x01"
            + MARK
            + (ENCODE + b"h\x00h\x01\x86R") * 10_000
            + b"l"
        ),
    )
    yield "dicts of one list", train(
        b"](" + (b"](" + text("k") + num(1) + b"e") * 10_000 + b"eq\x00" + MARK
        + (glob("collections", "OrderedDict") + b"h\x00\x85R") * 10_000 + b"l"
    )  # fmt: skip
    yield "a label outside the classes", train(labels=b"](" + num(0) + num(10**30) + b"e")
    yield "labels that are no numbers", train(labels=b"](" + text("x" * 10**6) + num(1) + b"e")
    yield "names that are no text", train(files=b"](" + num(3) + num(4) + b"e")
    yield "a stand-in as a value", train(NDARRAY)
    yield "pixels of another type", train(array("f8", (2, 3072), raw(bytes(8 * 6144))))
    yield "cut off", train()[:-40]
    yield "empty", b""
    yield "an array beyond the end of the stack", b"\x80\x04R."
    yield "a keyword for text", b"\x80\x04X\xff\xff\xff\xffx."


_LIKE_OTHERS = ("tuples nested a million deep", "a key nested a million deep", "three million dicts")
"""seconds each, and what they attack is attacked by "lists nested 200,000 deep" and "marks without end", too"""


def mini(rows: bytes) -> bytes:
    pixels = array("u1", (1, 84, 84, 3), raw(bytes(84 * 84 * 3)))
    return b"\x80\x04}(" + text("image_data") + pixels + text("class_dict") + rows + b"u."


# --------------------------------------------------------------------------------------------------------- archives


def png(size: int = 6, value: int = 90) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(out, "PNG")
    return out.getvalue()


def jpg(size: int = 12) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, size), (90, 90, 90)).save(out, "JPEG")
    return out.getvalue()


GOOD = {f"{c}/{i}.png": png(6, 20 * i) for c in "abcde" for i in range(2)}


def zipped(*more: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "hostile.zip", "w", method) as archive:
            for name, content in [*GOOD.items(), *more]:
                archive.writestr(name, content)

    return make


def changed(make: Callable[[Path], None], change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        make(folder)
        path = folder / "hostile.zip"
        path.write_bytes(change(bytearray(path.read_bytes())))

    return both


def everywhere(old: bytes, new: bytes) -> Callable[[bytearray], bytes]:
    assert len(old) == len(new)
    return lambda content: bytes(content).replace(old, new)


def zip_bomb(folder: Path, size: int = 2 << 30) -> None:
    with zipfile.ZipFile(folder / "hostile.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/0.png", "w", force_zip64=True) as entry:
            for _ in range(size // MB):
                entry.write(bytes(MB))
        archive.writestr("b/0.png", png())


def method_bomb(method: int, folder: Path) -> None:
    """A small entry that says to be small, in a method whose decoder gives back all at once."""
    with zipfile.ZipFile(folder / "hostile.zip", "w", method) as archive, archive.open("a/0.png", "w") as entry:
        for _ in range(600):
            entry.write(bytes(MB))


def lying_size(content: bytearray) -> bytearray:
    """The entry of 64 MB says that it has 100 bytes, in both headers."""
    return bytearray(bytes(content).replace(struct.pack("<I", 64 * MB), struct.pack("<I", 100)))


def flipped(content: bytearray) -> bytearray:
    content[content.index(b"a/0.png") + 60] ^= 1
    return content


def encrypted(content: bytearray) -> bytearray:
    for magic, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flag] |= 1
    return content


def link(name: str, kind: int = 0o120777) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, kind << 16
    return info


def many_entries(folder: Path) -> None:
    with zipfile.ZipFile(folder / "hostile.zip", "w") as archive:
        for i in range(100_000):
            archive.writestr(f"a/{i}.txt", b"")


def tarred(*members: tuple[tarfile.TarInfo | str, bytes], format: int = tarfile.GNU_FORMAT) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with tarfile.open(folder / "hostile.tar.gz", "w:gz", format=format) as archive:
            for member, content in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = info.size or len(content)
                archive.addfile(info, io.BytesIO(content))

    return make


def member(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


PICTURE = ("101_ObjectCategories/ant/image_0001.jpg", jpg())
OTHER = ("101_ObjectCategories/bee/image_0001.jpg", jpg())


def blocks(*parts: tuple[bytes, int]) -> Callable[[Path], None]:
    """A tar.gz of headers, each with so many MB of zeros behind it."""

    def make(folder: Path) -> None:
        with gzip.open(folder / "hostile.tar.gz", "wb", compresslevel=1) as out:
            for header, size in parts:
                out.write(header)
                for _ in range(size):
                    out.write(bytes(MB))
            out.write(bytes(1024))

    return make


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def negative(_: Path | None = None) -> bytes:
    """A header whose size is −512 in base 256."""
    content = bytearray(header("x", tarfile.REGTYPE, 0))
    content[124:136] = b"\xff" * 10 + b"\xfe\x00"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def sparse() -> bytes:
    """An old GNU sparse file of 8 GB with nothing in it."""
    content = bytearray(header("101_ObjectCategories/ant/image_0001.jpg", tarfile.GNUTYPE_SPARSE, 0))
    content[386:398] = b"%011o\0" % 0
    content[398:410] = b"%011o\0" % 0
    content[483:495] = b"%011o\0" % (8 << 30 if 8 << 30 < 8**11 else 8**11 - 1)
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def sparse_map(folder: Path) -> None:
    """A sparse file in pax's way, with a map of a million million numbers before its content."""
    info = tarfile.TarInfo("101_ObjectCategories/ant/image_0001.jpg")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    numbers = b"1000000000000\n" + b"1\n" * (4 * MB)
    info.size = len(numbers)
    with tarfile.open(folder / "hostile.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(numbers))


def no_members(folder: Path, count: int = 150_000) -> None:
    with gzip.open(folder / "hostile.tar.gz", "wb", compresslevel=1) as out:
        out.write(header("x", tarfile.REGTYPE, 0) * count + bytes(1024))


def cut(make: Callable[[Path], None], name: str, share: float = 0.6) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        make(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return both


def checksum(folder: Path) -> None:
    """All is well, but that the gzip's checksum is that of something else."""
    tarred(PICTURE, OTHER)(folder)
    content = bytearray((folder / "hostile.tar.gz").read_bytes())
    content[-6] ^= 1
    (folder / "hostile.tar.gz").write_bytes(content)


def in_zip(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """The tar.gz as Caltech's zip has it."""

    def both(folder: Path) -> None:
        make(folder)
        with zipfile.ZipFile(folder / "hostile.zip", "w") as archive:
            archive.write(folder / "hostile.tar.gz", "caltech-101/101_ObjectCategories.tar.gz")

    return both


# --------------------------------------------------------------------------------------------------------- pictures


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *more: bytes, content: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """`size` zeros, deflated."""
    packer, out = zlib.compressobj(1), []
    while size > 0:
        out.append(packer.compress(bytes(min(size, 64 * MB))))
        size -= 64 * MB
    return b"".join((*out, packer.flush()))


def real_png(width: int, height: int, colour: int = 2, bits: int = 8) -> bytes:
    """A black picture, whole: its file is a thousandth of its pixels."""
    return png_of(width, height, content=zeros(height * (1 + width * {0: 1, 2: 3, 6: 4}[colour] * bits // 8)), bits=bits, colour=colour)  # fmt: skip # noqa: E501


def ico(inside: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22) + inside


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def big_jpeg(**options: Any) -> bytes:
    """120 million pixels."""
    return saved(Image.new("L", (12_000, 10_000)), "JPEG", **options)


def jpeg_of(width: int, height: int) -> bytes:
    content = bytearray(saved(noise(), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def tiff(tags: dict[int, tuple[int, list[int]]], content: bytes) -> bytes:
    """A little-endian TIFF of one page; type 3 is 16 bits, type 4 is 32."""
    at = 8 + 2 + 12 * len(tags) + 4
    out = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack("<I" if kind == 4 else "<HH", *(values if kind == 4 else [values[0], 0]))
        out += struct.pack("<HHI", tag, kind, 1) + value
    return out + struct.pack("<I", 0) + content if at else b""


def tiled_tiff(side: int) -> bytes:
    """A picture of 16×16 in one tile of side×side, deflated."""
    content = zeros(side * side)
    tags = {256: (4, [16]), 257: (4, [16]), 258: (3, [8]), 259: (3, [8]), 262: (3, [1]), 277: (3, [1])}
    tags |= {322: (4, [side]), 323: (4, [side]), 324: (4, [8 + 2 + 12 * 10 + 4]), 325: (4, [len(content)])}
    return tiff(tags, content)


def animated() -> bytes:
    frames = [Image.new("P", (9, 9), i) for i in range(5)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def bmp_of(width: int, height: int) -> bytes:
    content = bytearray(saved(noise(), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def gif_of(width: int, height: int) -> bytes:
    content = bytearray(saved(Image.new("P", (9, 9)), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(noise(), "JPEG", exif=exif)


def pictures() -> Iterator[tuple[str, Callable[[], bytes], bool, int, bool]]:
    """Name, content, whether it is read, MB, whether it is slow."""
    yield "PNG header bomb.png", lambda: png_of(65_000, 65_000, content=zlib.compress(b"")), False, 100, False
    yield "PNG of 110 million pixels.png", lambda: real_png(11_000, 10_000, 0), False, 100, False
    yield "PNG of 169 million pixels.png", lambda: real_png(13_000, 13_000), False, 100, True
    yield "PNG of 99 million pixels.png", lambda: real_png(9_900, 10_000), True, 1500, True
    yield "PNG of 99 million pixels of 16 bits.png", lambda: real_png(9_900, 10_000, 0, 16), True, 3500, True
    yield "PNG of 99 million transparent pixels.png", lambda: real_png(9_900, 10_000, 6), True, 2500, True
    yield "PNG of size 0.png", lambda: png_of(0, 0, content=zlib.compress(b"")), False, 100, False
    yield "PNG text bomb.png", lambda: png_of(1, 1, *[chunk(b"zTXt", b"k\0\0" + zeros(60 * MB))] * 20), False, 250, True
    yield "PNG profile bomb.png", lambda: png_of(1, 1, chunk(b"iCCP", b"k\0\0" + zeros(500 * MB))), False, 250, True
    yield "PNG whose pixels go on.png", lambda: png_of(4, 4, content=zeros(500 * MB)), True, 250, True
    yield "JPEG header bomb.jpg", lambda: jpeg_of(65_000, 65_000), False, 100, False
    yield "JPEG that claims 99 million pixels.jpg", lambda: jpeg_of(9_900, 10_000), True, 1500, True
    yield "JPEG progressive of 120 million pixels.jpg", lambda: big_jpeg(progressive=True), False, 100, True
    yield "JPEG of 120 million pixels, read smaller.jpg", big_jpeg, True, 250, True
    yield "GIF header bomb.gif", lambda: gif_of(65_535, 65_535), False, 100, False
    yield "GIF that claims 99 million pixels.gif", lambda: gif_of(9_900, 10_000), True, 1500, True
    yield "BMP header bomb.bmp", lambda: bmp_of(65_000, 65_000), False, 100, False
    yield "BMP of negative size.bmp", lambda: bmp_of(-65_000, -65_000), False, 100, False
    yield "TIFF header bomb.tif", lambda: tiff({256: (4, [65_000]), 257: (4, [65_000]), 258: (3, [8]), 262: (3, [1]), 273: (4, [8])}, b""), False, 100, False  # fmt: skip # noqa: E501
    yield "TIFF tile bomb.tif", lambda: tiled_tiff(40_000), False, 250, True
    canvas = lambda: saved(Image.new("RGB", (10_100, 10_000)), "WEBP", lossless=True, quality=0, method=0)  # noqa: E731
    yield "WebP of 101 million pixels.webp", canvas, False, 300, True
    yield "ICO with a large PNG inside.ico", lambda: ico(real_png(13_000, 13_000)), False, 300, True
    yield "PPM header bomb.ppm", lambda: b"P6 65000 65000 255\n", False, 100, False
    yield "JPEG 2000 of 121 million pixels.jp2", lambda: saved(Image.new("L", (11_000, 11_000)), "JPEG2000"), False, 250, True  # fmt: skip # noqa: E501
    for ending, kind in [
        ("png", "PNG"),
        ("jpg", "JPEG"),
        ("gif", "GIF"),
        ("bmp", "BMP"),
        ("tif", "TIFF"),
        ("webp", "WEBP"),
    ]:
        yield f"cut off.{ending}", lambda kind=kind: saved(noise(), kind)[:-700], False, 100, False
    yield "JPEG called PNG.png", lambda: saved(noise(), "JPEG"), True, 100, False
    yield "program for a printer called PNG.png", lambda: saved(noise(), "EPS"), False, 100, False
    yield "zip called PNG.png", lambda: b"PK\x03\x04" + bytes(100), False, 100, False
    yield "animated.gif", animated, True, 100, False
    yield "CMYK.jpg", lambda: saved(noise().convert("CMYK"), "JPEG"), True, 100, False
    yield "16 bits.png", lambda: saved(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "PNG"), True, 100, False
    yield "rotated by EXIF.jpg", rotated, True, 100, False
    yield "EXIF of rubbish.jpg", lambda: saved(noise(), "JPEG", exif=b"Exif\0\0garbage"), True, 100, False
    yield "empty.png", lambda: b"", False, 100, False
    yield "sparse file of 6 GB.png", lambda: b"", False, 100, False


# ---------------------------------------------------------------------------------------------------------- folders


def tree(folder: Path, **more: bytes) -> Path:
    root = folder / "hostile"
    for name, content in {**GOOD, **more}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def with_loop(folder: Path) -> None:
    root = tree(folder)
    (root / "a" / "again").symlink_to(root)
    (root / "b" / "self.png").symlink_to("self.png")


def with_pipe(folder: Path) -> None:
    os.mkfifo(tree(folder) / "a" / "pipe.png")


def with_device(folder: Path) -> None:
    (tree(folder) / "a" / "zero.png").symlink_to("/dev/zero")


def closed(folder: Path) -> None:
    (tree(folder) / "c").chmod(0)


def not_text(folder: Path) -> None:
    """A class whose name is Latin-1, listed in Latin-1, too."""
    root = os.fsencode(tree(folder))
    os.mkdir(root + b"/caf\xe9")  # noqa: PTH102 (bytes)
    Path(os.fsdecode(root + b"/caf\xe9/\xff.png")).write_bytes(png())
    (folder / "hostile" / "train.txt").write_bytes(b"caf\xe9\na\n")


def bad_not_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree(folder)) + b"/a/caf\xe9\x1b[2J.png")).write_bytes(b"no picture")


def twins(folder: Path) -> None:
    root = os.fsencode(tree(folder))
    for name in (b"/caf\xe9", b"/caf\\udce9"):
        os.mkdir(root + name)  # noqa: PTH102 (bytes)
        Path(os.fsdecode(root + name + b"/0.png")).write_bytes(png())


def holes(folder: Path) -> None:
    path = tree(folder) / "a" / "holes.png"
    path.touch()
    os.truncate(path, 6 << 30)


def long_list(folder: Path) -> None:
    path = tree(folder) / "train.txt"
    path.touch()
    os.truncate(path, 6 << 30)


def pipe_as_root(folder: Path) -> None:
    os.mkfifo(folder / "hostile")


# ------------------------------------------------------------------------------------------------------------ names

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</style><script>alert(1)</script>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "javascript:alert(1)",
    "<svg/onload=alert(1)>",
)
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "a;=1+1", 'a"\n=1+1', "-2+3;x")


def gallery_is_safe(name: str, _: Path) -> bool:
    small = thumbnail(name, Image.new("RGB", (9, 9)))
    guess = Guess(small, name, 0.5, name + "2", 0.5, 0, True)
    html = page(Gallery(((name, small), (name + "2", small)), (guess,), ((name, name),), ((name, name),)))
    plain = page(Gallery((("a", small_plain()), ("b", small_plain())), (), (), ()))
    dangerous = ("<script>alert", "<img src=x", "<svg/onload", "</style><script>", "49")
    return not any(d in html for d in dangerous[:4]) and html.count("<script") == plain.count("<script")


def small_plain() -> Any:
    return thumbnail("a.png", Image.new("RGB", (9, 9)))


def cells_are_safe(_: Path) -> bool:
    content = csv_text([[f, -0.5, 3] for f in FORMULAS])
    lines = list(csv.reader(io.StringIO(content, newline="")))
    return (
        [line[1:] for line in lines] == [["-0.5", "3"]] * len(FORMULAS)
        and not any(line[0][0] in "=+-@\t\r" for line in lines)
        and '\n"a;=1+1",-0.5,3\n' in content  # in quotes, where another separator is no separator
    )


# ------------------------------------------------------------------------------------------------------------ table


def read_zip(folder: Path) -> bool:
    data = Folder(str(folder / "hostile.zip"), size=8).dataset().load(cache_dir=folder / "cache")
    return len(data.class_names) >= 3


def read_tar(folder: Path) -> bool:
    return caltech(folder / "hostile.tar.gz", 12).class_names == ("ant", "bee")


def read_tar_in_zip(folder: Path) -> bool:
    return caltech(folder / "hostile.zip", 12).class_names == ("ant", "bee")


def read_cifar(folder: Path) -> bool:
    return cifar(folder / "cifar").count.tolist() == [1, 2]


def read_folder(folder: Path) -> bool:
    data = Folder(str(folder / "hostile"), size=8).dataset()
    return len(data.load(cache_dir=folder / "cache").class_names) >= 3


def read_folder_as_nobody(folder: Path) -> bool:
    """What is closed is open to the superuser."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    return read_folder(folder)


def read_picture(name: str, folder: Path) -> bool:
    """By every way that a picture's file has into the library; each must give the same verdict."""
    path = folder / name
    ways: list[Callable[[], Any]] = [
        lambda: load_picture(path),
        lambda: images([path], Wanted(8, 3)).stack([0]),
        lambda: picture(path.read_bytes(), 8, 3, name) if path.stat().st_size < 1 << 30 else load_picture(path),
    ]
    errors = []
    for way in ways:
        try:
            way()
        except InnerloopError as e:
            errors.append(e)
    if errors and len(errors) < len(ways) and "read smaller" not in name:
        raise AssertionError(f"one way reads it, another does not: {errors}")
    for e in errors:
        if name not in str(e):
            raise AssertionError(f"{e} does not name {name}")
    if errors and len(errors) == len(ways):
        raise errors[0]
    return True


def write_picture(name: str, content: Callable[[], bytes], folder: Path) -> None:
    (folder / name).write_bytes(content())
    if name.startswith("sparse"):
        os.truncate(folder / name, 6 << 30)


def attacks() -> Iterator[Attack]:
    """The whole table."""
    yield Attack("pickle: a good one", in_cifar(train()), read_cifar)
    for name, content in pickles():
        yield Attack(f"pickle: {name}", in_cifar(content), read_cifar, "cifar", 600, slow=name in _LIKE_OTHERS)
    read_mini = lambda folder: len(read_pickles([folder / "cache.pkl"]).class_names) == 1  # noqa: E731
    one = b"}" + text("n1") + b"](" + num(0) + b"es"
    yield Attack("pickle: a good mini-ImageNet", in_mini(mini(one)), read_mini)
    for name, rows in {
        "rows beyond the images": b"}" + text("n1") + b"](" + num(1) + b"es",
        "negative rows": b"}" + text("n1") + b"](" + num(-1) + b"es",
        "rows of 10^30": b"}" + text("n1") + b"](" + num(10**30) + b"es",
        "a hundred classes of the same 100,000 rows": b"}" + text("n0") + SHARED_ROWS + b"s("
        + b"".join(text(f"n{i}") + b"h\x05" for i in range(1, 100)) + b"u",
        "billion laughs as rows": b"}" + text("n1") + laughs(100) + b"s",
        "rows that are text": b"}" + text("n1") + text("x" * 10**6) + b"s",
        "classes in a list": b"](" + num(0) + b"e",
    }.items():  # fmt: skip
        yield Attack(f"mini-ImageNet: {name}", in_mini(mini(rows)), read_mini, "cache.pkl")

    in_archive = "hostile.zip"
    yield Attack("zip: a good one", zipped(), read_zip)
    yield Attack("zip: names with ../", zipped(("../../cwd/x.png", png()), ("..\\x\\y.png", png())), read_zip)
    yield Attack("zip: absolute names", zipped(("/tmp/x/y.png", png()), ("C:\\x\\y.png", png())), read_zip)
    yield Attack("zip: symlink as a picture", zipped((link("a/l.png"), b"/etc/passwd")), read_zip, "a/l.png")
    yield Attack("zip: device as a picture", zipped((link("a/d.png", 0o020666), b"")), read_zip, "a/d.png")
    twice = changed(zipped(("a/8.png", png()), ("a/9.png", png())), everywhere(b"a/9.png", b"a/8.png"))
    yield Attack("zip: one name twice", twice, read_zip, "a/8.png")
    yield Attack("zip: names that differ in case", zipped(("A/0.png", png()), ("a/0.PNG", png())), read_zip)
    yield Attack("zip: encrypted", changed(zipped(), encrypted), read_zip, in_archive)
    yield Attack("zip: cut off", cut(zipped(), in_archive), read_zip, in_archive)
    yield Attack("zip: empty", changed(zipped(), lambda _: b""), read_zip, in_archive)
    yield Attack("zip: a bit flipped", changed(zipped(), flipped), read_zip, "a/0.png")
    yield Attack(
        "zip: directory elsewhere",
        changed(zipped(), lambda c: c[:-6] + b"\xff\xff\xff\x7f" + c[-2:]),
        read_zip,
        in_archive,
    )
    yield Attack(
        "zip: zip64 sizes forged",
        changed(zipped(), lambda c: bytes(c).replace(b"PK\x05\x06", b"PK\x06\x06" + bytes(40) + b"PK\x05\x06")),
        read_zip,
        in_archive,
    )
    yield Attack("zip: unknown method", changed(zipped(), everywhere(b"\x08\x00", b"\x63\x00")), read_zip, in_archive)
    yield Attack("zip: version 25.5", changed(zipped(), everywhere(b"\x14\x00\x00\x00", b"\xff\x00\x00\x00")), read_zip, in_archive)  # fmt: skip # noqa: E501
    yield Attack(
        "zip: a name that is no UTF-8 though it says so",
        changed(zipped(("a/\u00e9.png", png())), everywhere("\u00e9".encode(), b"\xff\xff")),
        read_zip,
        in_archive,
    )
    yield Attack("zip: a name of 10,000 letters", zipped((f"a/{'x' * 10_000}.png", b"no")), read_zip, in_archive)
    yield Attack("zip: a name with escapes of the terminal", zipped(("a/\x1b[2J\r\n.png", b"no")), read_zip, in_archive)
    yield Attack("zip: a zip in a zip", zipped(("a/z.png", b"PK\x03\x04" * 100)), read_zip, "a/z.png")
    yield Attack("zip: a picture bomb inside", zipped(("a/b.png", png_of(65_000, 65_000))), read_zip, "a/b.png")
    yield Attack(
        "zip: a picture of 110 million pixels", zipped(("a/b.png", real_png(11_000, 10_000, 0))), read_zip, "a/b.png"
    )
    yield Attack(
        "zip: says 100 bytes, is 64 MB", changed(zipped(("a/y.png", bytes(64 * MB))), lying_size), read_zip, "a/y.png"
    )
    yield Attack("zip bomb of 2 GB", zip_bomb, read_zip, "a/0.png", slow=True)
    yield Attack("zip bomb by bzip2", partial(method_bomb, zipfile.ZIP_BZIP2), read_zip, "a/0.png", slow=True)
    yield Attack("zip bomb by LZMA", partial(method_bomb, zipfile.ZIP_LZMA), read_zip, "a/0.png", slow=True)
    yield Attack("zip: 100,000 entries", many_entries, read_zip, in_archive, slow=True)

    in_tar = "hostile.tar.gz"
    yield Attack("tar: a good one", tarred(PICTURE, OTHER), read_tar)
    yield Attack("tar: a good one in a zip", in_zip(tarred(PICTURE, OTHER)), read_tar_in_zip)
    yield Attack("tar: names with ../", tarred(PICTURE, OTHER, ("../../cwd/ran", b"x")), read_tar)
    yield Attack("tar: absolute names", tarred(PICTURE, OTHER, ("/tmp/ran", b"x")), read_tar)
    for name, kind in [("symlink", tarfile.SYMTYPE), ("hard link", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE),
                       ("device", tarfile.CHRTYPE), ("disk", tarfile.BLKTYPE)]:  # fmt: skip
        yield Attack(
            f"tar: {name} as a picture",
            tarred(PICTURE, OTHER, (member("101_ObjectCategories/bee/image_0009.jpg", kind, "/etc/passwd"), b"")),
            read_tar,
        )
    yield Attack("tar: one name twice", tarred(PICTURE, OTHER, PICTURE), read_tar, in_tar)
    yield Attack("tar: no picture", tarred(PICTURE, ("101_ObjectCategories/bee/i.jpg", b"no")), read_tar, "bee/i.jpg")
    yield Attack("tar: cut off", cut(tarred(PICTURE, OTHER), in_tar), read_tar, in_tar)
    yield Attack("tar: wrong checksum", checksum, read_tar, in_tar)
    yield Attack("tar: wrong checksum in a zip", in_zip(checksum), read_tar_in_zip, in_archive)
    yield Attack("tar: no gzip", lambda folder: (folder / in_tar).write_bytes(b"no gzip"), read_tar, in_tar)
    yield Attack(
        "tar: a name that is no UTF-8",
        tarred(PICTURE, ("101_ObjectCategories/bee/\udcff.jpg", b"no")),
        read_tar,
        in_tar,
    )
    yield Attack("tar: a name of 10,000 letters", tarred(PICTURE, (f"101_ObjectCategories/bee/{'x' * 10_000}.jpg", b"no")), read_tar, in_tar)  # fmt: skip # noqa: E501
    yield Attack(
        "tar: a negative size", blocks((header(PICTURE[0], tarfile.REGTYPE, 0) + negative(), 0)), read_tar, in_tar
    )
    yield Attack("tar: sparse file of 8 GB", blocks((sparse(), 0)), read_tar, in_tar)
    yield Attack("tar: sparse map without end", sparse_map, read_tar, in_tar)
    yield Attack("tar: names of names", blocks((header("x", tarfile.GNUTYPE_LONGNAME, 0) * 3000, 0)), read_tar, in_tar)
    numbers = (member("x", tarfile.XHDTYPE), b"99999999999999999999 size=x\n")
    yield Attack("tar: attributes that are no numbers", tarred(numbers, PICTURE, OTHER), read_tar, in_tar)
    for name, kind in [
        ("name", tarfile.GNUTYPE_LONGNAME),
        ("attributes", tarfile.XHDTYPE),
        ("link", tarfile.GNUTYPE_LONGLINK),
    ]:
        yield Attack(
            f"tar bomb by a {name} of 1 GB", blocks((header("x", kind, 1 << 30), 1024)), read_tar, in_tar, slow=True
        )
    yield Attack("tar bomb by a picture of 2 GB", blocks((header(PICTURE[0], tarfile.REGTYPE, 2 << 30), 2048)), read_tar, PICTURE[0], slow=True)  # fmt: skip # noqa: E501
    yield Attack("tar bomb by what nobody asks for", blocks((header("x", tarfile.REGTYPE, 2 << 30), 2048)), read_tar, in_tar, slow=True)  # fmt: skip # noqa: E501
    yield Attack("tar bomb by 150,000 entries", no_members, read_tar, in_tar, slow=True)
    yield Attack(
        "tar bomb by train of 2 GB",
        blocks((header("cifar-100-python/train", tarfile.REGTYPE, 2 << 30), 2048)),
        lambda folder: cifar(folder / in_tar),
        "train",
        slow=True,
    )

    for name, content, is_read, memory, slow in pictures():
        yield Attack(f"picture: {name}", partial(write_picture, name, content), partial(read_picture, name),
                     "" if is_read else name, memory, slow)  # fmt: skip

    yield Attack("folder: a good one", tree, read_folder)
    yield Attack("folder: links in a circle", with_loop, read_folder)
    yield Attack("folder: a pipe", with_pipe, read_folder)
    yield Attack("folder: a link to /dev/zero", with_device, read_folder)
    yield Attack("folder: a class that may not be read", closed, read_folder_as_nobody, "hostile/c")
    yield Attack("folder: names that are no UTF-8", not_text, read_folder)
    yield Attack("folder: a bad picture whose name is no UTF-8", bad_not_text, read_folder, "a/caf\\udce9\\x1b[2J.png")
    yield Attack("folder: two classes that look alike", twins, read_folder, "caf\\udce9")
    yield Attack("folder: a picture of 6 GB of holes", holes, read_folder, "a/holes.png")
    yield Attack("folder: a list of 6 GB of holes", long_list, read_folder, "train.txt")
    yield Attack("folder: is a pipe", pipe_as_root, read_folder, "hostile")
    yield Attack(
        "folder: is /dev/zero", lambda folder: (folder / "hostile").symlink_to("/dev/zero"), read_folder, "hostile"
    )

    for name in NAMES:
        yield Attack(f"gallery: {name}", lambda _: None, partial(gallery_is_safe, name))
    yield Attack("spreadsheet: formulas", lambda _: None, cells_are_safe)


# ---------------------------------------------------------------------------------------------------------- running


def attempt(attack: Attack) -> tuple[bool, str]:
    """Whether it was survived, and what happened."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place, "files")
        for made in (folder, folder / "cwd"):
            made.mkdir()
        for opened in (place, folder, folder / "cwd"):
            os.chmod(opened, 0o755)  # noqa: PTH101
        how, said = _in_child(lambda: attack.make(folder), folder)
        if how != "value":
            return False, f"could not be made: {how} {said}"
        before = _listing(folder)
        began = time.monotonic()
        how, said = _in_child(lambda: attack.use(folder), folder)
        seconds = time.monotonic() - began
        new = sorted(_listing(folder) - before)
        for closed_folder in folder.rglob("c"):
            closed_folder.chmod(0o755)
    grown = said.get("grown", 0)
    story = f"{how}, {grown} MB, {seconds:.1f} s: {said.get('text', '')[:300]}"
    good = how == ("error" if attack.names else "value") and not new and grown <= attack.memory
    if attack.names:
        good = good and attack.names in said["text"] and said["text"].isprintable() and len(said["text"]) < 1500
    else:
        good = good and said.get("text") != "False"
    return good, story + (f" WROTE {new}" if new else "")


def _listing(folder: Path) -> set[str]:
    return {str(p) for p in folder.rglob("*") if "cache" not in p.relative_to(folder).parts[:1]}


def _in_child(do: Callable[[], Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """How `do` ends in a forked process: value, error (one of ours), bug (any other), or the signal that ended it."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reads)
            faulthandler.disable()  # a crash is reported by the parent
            os.chdir(folder)
            signal.alarm(SECONDS)
            before = _peak()
            how, value = "value", ""
            try:
                value = str(do())
            except InnerloopError as e:
                how, value = "error", str(e)
            except BaseException:
                how, value = "bug", traceback.format_exc()[-1500:]
            grown = (_peak() - before) // 1024
            os.write(writes, json.dumps({"how": how, "text": value[:4000], "grown": grown}).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        content = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, {}
    said = json.loads(content)
    return said.pop("how"), said


def _peak() -> int:
    """KB: the high-water mark of resident memory, which a forked process begins anew."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def main() -> int:
    """Try those whose name has the first argument in it, or all."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [a for a in attacks() if part in a.name]
    failed = 0
    for attack in chosen:
        good, story = attempt(attack)
        failed += not good
        print(f"{'survived' if good else 'BROKEN  '} {attack.name[:80]!r}: {story}", flush=True)
    print(f"tried {len(chosen)}, survived {len(chosen) - failed}")
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
