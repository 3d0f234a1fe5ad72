"""Text files are read strictly, and errors name the bad line."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_rt.encodings import lone_surrogate
from mirror_rt.errors import InputError
from mirror_rt.textfiles import numbered_lines, read_lines
from tests.errors import about


def test_every_line_is_a_row_and_only_newlines_end_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\n  \ntwo\u2028three\x0bfour\x85five\nlast".encode())
    assert read_lines(path) == ["one", "", "  ", "two\u2028three\x0bfour\x85five", "last"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.txt.gz"
    with gzip.open(path, "wb") as handle:
        handle.write("".join(f"{row}\n" for row in ["first", *rows]).encode())
    assert read_lines(path) == ["first", *rows]


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert list(numbered_lines("-")) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", None),
        (b"good\nbad \xff\n", 2),
        (b"\x1f\x8bnot gzip", 1),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, content: bytes, line: int | None
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, check=about(str(path), line=line)):
        read_lines(path)


def test_a_broken_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"line\n" * 1000)[:-12])
    with pytest.raises(InputError, check=about("a.txt.gz")):
        read_lines(path)
    path.write_bytes(b"not gzip at all")  # the content decides, not the name
    assert read_lines(path) == ["not gzip at all"]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, check=about("missing.txt")):
        read_lines(tmp_path / "missing.txt")
    with pytest.raises(InputError, check=about(str(tmp_path))):
        read_lines(tmp_path)


def test_zstd_is_unpacked_and_a_broken_file_is_named(tmp_path: Path) -> None:
    import pyarrow

    path = tmp_path / "a.txt.zst"
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write("".join(f"line {i}\n" for i in range(5000)).encode())
    assert read_lines(path) == [f"line {i}" for i in range(5000)]
    whole = path.read_bytes()
    path.write_bytes(whole * 2)  # consecutive frames are one file, as with gzip
    assert len(read_lines(path)) == 10_000
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, check=about("a.txt.zst")):
        read_lines(path)
    path.write_bytes(whole[:8])
    with pytest.raises(InputError, check=about("a.txt.zst")):
        read_lines(path)


@given(
    st.text(st.characters()), st.sampled_from(["\ud800", "\udbff", "\udc00", "\udfff"]), st.text()
)
def test_the_place_of_half_a_pair_is_reported(before: str, half: str, after: str) -> None:
    before = "".join(sign for sign in before if not "\ud800" <= sign <= "\udfff")
    assert lone_surrogate(before) is None
    assert lone_surrogate(before + half + after) == len(before)
