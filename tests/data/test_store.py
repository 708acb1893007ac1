"""The cache is used when it is good, and only then."""

import errno
import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch

from innerloop.core.episodes import ClassImages
from innerloop.data import store
from innerloop.data.store import StaleCache, cached, read, write


def made(value: int = 3) -> ClassImages:
    images = torch.arange(5 * 16, dtype=torch.uint8).reshape(5, 1, 4, 4) + value
    count = torch.tensor([2, 3])
    return ClassImages("made", images, count.cumsum(0) - count, count, torch.zeros_like(count), ("a", "b"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.safetensors"
    write(path, made(), "1", "f")
    back = read(path, "1", "f")
    assert torch.equal(back.images, made().images)
    assert back.count.tolist() == [2, 3]
    assert back.first.tolist() == [0, 2]
    assert back.class_names == ("a", "b")
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"], "a temporary file was left"


def test_every_byte_counts(tmp_path: Path) -> None:
    """A flip of one bit anywhere, or a cut, must not pass for the data."""
    path = tmp_path / "x"
    write(path, made(), "1", "f")
    whole = path.read_bytes()
    for at in range(8, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            back = read(path, "1", "f")
        except StaleCache:
            continue
        # a flip that only changes how the header is spelt (white space) may pass, with the same data
        assert torch.equal(back.images, made().images)
        assert back.class_names == ("a", "b")
    for cut in (0, 7, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StaleCache):
            read(path, "1", "f")


@pytest.mark.parametrize("damage", ["pixel", "version", "source", "garbage", "foreign"])
def test_a_bad_file_is_built_anew_with_a_word(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x"
    write(path, made(9), "0" if damage == "version" else "1", "other" if damage == "source" else "f")
    match damage:
        case "pixel":
            content = bytearray(path.read_bytes())
            content[-1] ^= 255
            path.write_bytes(content)
        case "garbage":
            path.write_bytes(b"no tensors here")
        case "foreign":
            safetensors.torch.save_file({"images": torch.zeros(1)}, path)
    with caplog.at_level(logging.WARNING, "innerloop.data"):
        data = cached(path, "1", "f", made)
    assert torch.equal(data.images, made().images)
    assert "rebuilt" in caplog.text
    caplog.clear()
    assert torch.equal(cached(path, "1", "f", lambda: pytest.fail("not kept")).images, made().images)
    assert not caplog.text


def test_without_the_source_a_whole_cache_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "x", made(), "1", "f")
    assert len(cached(tmp_path / "x", "1", None, lambda: pytest.fail("built")).images) == 5


def test_a_full_disk_costs_a_warning_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.safetensors.torch, "save_file", full)
    data = cached(tmp_path / "x", "1", "f", made)
    assert len(data.images) == 5
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / f".x.{2**22 + 1}-0.part").write_bytes(b"half")  # no process has such a number
    write(tmp_path / "x", made(), "1", "f")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_failed_rewrite_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x", made(), "1", "f")
    old = (tmp_path / "x").read_bytes()

    def broken(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(store.safetensors.torch, "save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x", made(9), "1", "f")
    assert (tmp_path / "x").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1
