import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mirror_rt.errors import InputError
from mirror_rt.knowledge import knowledge_base
from mirror_rt.knowledge.formats.pubtator import is_pubtator, read_mentions, with_ids
from mirror_rt.knowledge.linking import job
from mirror_rt_cli.app import app
from tests.errors import about
from tests.kb import LetterEncoder

TITLE = "Short stature (SS) and liver cancer."
ABSTRACT = "SS was seen. Liver cancer, qqqq and VSD were not! Naïve text ends."
FIRST = f"{TITLE} {ABSTRACT}"


def _line(text: str, mention: str, *rest: str, after: int = 0, document: str = "1") -> str:
    start = text.index(mention, after)
    return "\t".join((document, str(start), str(start + len(mention)), mention, *rest))


LINES = [
    f"1|t|{TITLE}\r\n",
    f"1|a|{ABSTRACT}\r\n",
    _line(FIRST, "SS", "Disease", after=len(TITLE)) + "\r\n",
    _line(FIRST, "Liver cancer", "Disease", "D000") + "\r\n",
    _line(FIRST, "?" if "?" in FIRST else "!", "Disease", "D000", "kept") + "\r\n",
    _line(FIRST, "VSD", "Disease", "") + "\r\n",
    "1\tCID\tD000\tD111\r\n",
    "\r\n",
    "two|t|SS and VSD\n",
    "two|a|\n",
    _line("SS and VSD", "SS", "Disease", document="two") + "\n",
    "two\t7\t10\tVSD\tDisease",
]


@pytest.fixture(autouse=True)
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BLOCK", 2)
    monkeypatch.setattr(knowledge_base, "open_encoder", lambda bundle: LetterEncoder())


def _link(kb: Path, mentions: Path, *more: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["link", str(kb), str(mentions), *map(str, more)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.pubtator"
    path.write_bytes("".join(LINES).encode())
    return path


def test_mentions_stand_where_their_lines_say(file: Path) -> None:
    found = list(read_mentions(file))
    assert [mention.text for mention in found] == ["SS", "Liver cancer", "!", "VSD", "SS", "VSD"]
    for mention in found:
        assert mention.document[mention.start : mention.end] == mention.text
    sentence = "Liver cancer, qqqq and VSD were not!"
    assert [mention.sentence for mention in found] == [
        "SS was seen.", sentence, sentence + " Naïve text ends.", sentence,
        "SS and VSD", "SS and VSD",
    ]  # fmt: skip


def test_ids_are_filled_in_and_all_else_is_kept(hearts: Path, file: Path) -> None:
    out = file.with_name("out.pubtator")
    code, _, err = _link(hearts, file, "--out", out, "--min-probability", "0.9")
    assert (code, "6 mentions" in err) == (0, True)
    expected = list(LINES)
    # The first document defines SS, the second does not.
    expected[2] = expected[2].replace("Disease", "Disease\tH:3")
    expected[3] = expected[3].replace("D000", "H:4")
    expected[4] = expected[4].replace("D000\tkept", "-\tkept")
    expected[5] = expected[5].replace("Disease\t", "Disease\tH:2")
    expected[10] = expected[10].replace("Disease", "Disease\t-")
    expected[11] += "\tH:2"
    assert out.read_bytes().decode() == "".join(expected)


def test_parts_of_a_composite_have_an_id_each(hearts: Path, tmp_path: Path) -> None:
    text = "With liver cancer and short stature."
    file, out = tmp_path / "a.pubtator", tmp_path / "out.pubtator"
    file.write_text(f"1|t|{text}\n{_line(text, 'liver cancer and short stature', 'Disease')}\n")
    code, _, err = _link(hearts, file, "--split-composites", "--out", out)
    assert (code, err) == (0, f"{out}: 1 mention, 1 linked, 0 nil\n")
    assert out.read_text() == file.read_text().removesuffix("\n") + "\tH:4|H:3\n"


def test_contexts_are_the_sentence_or_the_document(
    hearts: Path, file: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "a.txt"
    text = "Seen. ASD with a hole in the heart. Autism is else."
    plain.write_text(f"\n1|t|{text}\n{_line(text, 'ASD', 'Disease')}\n")
    assert is_pubtator(plain)
    for more, has in (([], False), (["sentence"], True), (["document"], True)):
        options = ["--context-column", *more] if more else []
        code, out, _ = _link(hearts, plain, *options)
        (record,) = map(json.loads, out.splitlines())
        assert code == 0
        assert record["mention"] == "ASD"
        assert ("context_score" in record["candidates"][0]) is has
        _, _, err = _link(hearts, plain, *options, "--out", tmp_path / "o.pubtator", "--force")
        assert ("1 of them tied between several ids" in err) is not has
    code, out, err = _link(hearts, file, "--context-column", "title")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "takes sentence or document" in err
    (tmp_path / "names.txt").write_text("ASD\n")
    assert not is_pubtator(tmp_path / "names.txt")
    code, _, err = _link(hearts, tmp_path / "names.txt", "--out", tmp_path / "b.pubtator")
    assert (code, err.count("\n")) == (1, 1)
    assert "for a PubTator file alone" in err


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (2, "1|t|again"),
        (2, "2|a|of another"),
        (3, "1\t5\t9\tfour fields"),
        (3, "1\t9\t9\tx\tDisease"),
        (3, "2\t0\t5\tShort\tDisease"),
        (3, "1\tx\t5\tShort\tDisease"),
        (3, "words"),
        (8, "1|a|a blank line is missing before it"),
        (9, "two|a|no title"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, number: int, line: str) -> None:
    path = tmp_path / "a.pubtator"
    path.write_bytes("".join([*LINES[: number - 1], line + "\n", *LINES[number:]]).encode())
    with pytest.raises(InputError, check=about("a.pubtator", line=number)):
        list(read_mentions(path))


def test_a_file_that_changed_meanwhile_is_reported(file: Path) -> None:
    for ids in (["x"] * 5, ["x"] * 7):
        with pytest.raises(InputError, check=about("a.pubtator")):
            list(with_ids(file, ids))


def test_abbreviations_can_be_left_as_they_are_written(hearts: Path, file: Path) -> None:
    for more, expected in (([], "H:3"), (["--no-expand-abbreviations"], "-")):
        out = file.with_name("out.pubtator")
        options = ["--min-probability", "0.9", "--out", out, "--force", *more]
        assert _link(hearts, file, *options)[0] == 0
        ids = [line.split("\t")[5] for line in out.read_text().splitlines() if "\tSS\t" in line]
        assert ids == [expected, "-"]
    code, _, err = _link(hearts, file, "--document-column", "text")
    assert (code, "PubTator has no columns" in err) == (1, True)


def test_mentions_that_are_not_at_their_offsets_are_counted(hearts: Path, file: Path) -> None:
    assert _link(hearts, file)[2] == ""
    shifted = file.read_bytes().replace(b"two\t7\t10\tVSD", b"two\t6\t9\tVSD")
    file.write_bytes(shifted)
    code, out, err = _link(hearts, file)
    assert (code, len(out.splitlines())) == (0, 6)
    assert err == f"{file}: 1 mention not in the text at the offset given\n"
