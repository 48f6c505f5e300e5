"""YAML by the rules of streamd.service.document: scalars, places, refusals."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.core.errors import ConfigError, MissingFileError
from streamd.service.document import MAX_DEPTH, read_document, scalar, write
from streamd.service.faults import Place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streamd.yaml"


def one_line(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_document(file)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "off",
        "on",
        "no",
        "yes",
        "Off",
        "NO",
        "y",
        "n",
        "007",
        "-07",
        "00.5",
        "0x1F",
        "0o17",
        "12:30",
        "1:2:3",
        "1_000",
        "1,5",
        "2026-01-01",
        ".inf",
        "-.INF",
        ".nan",
        ".",
        "-",
        "+",
        "+.",
        "1e",
        "e3",
        "=1",
        "TrUe",
        "nULL",
        "1e999",
        "0b1",
        "٣",
        "9999999999999999999999",
    ],
)
def test_stays_text(text: str) -> None:
    assert scalar(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("True", True), ("FALSE", False), ("null", None), ("~", None), ("", None), ("0", 0),
     ("-7", -7), ("+7", 7), ("1e3", 1000.0), (".5", 0.5), ("-.5e-2", -0.005), ("1.", 1.0), ("0.45", 0.45)],
)  # fmt: skip
def test_means_a_value(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@given(st.text())
def test_a_scalar_is_what_a_strict_reader_takes_it_for(text: str) -> None:
    value = scalar(text)
    if isinstance(value, bool):
        assert text.lower() in ("true", "false")
    elif isinstance(value, int):
        assert re.fullmatch("[-+]?[0-9]+", text)
        assert str(value) == text.lstrip("+").replace("-0", "0") or text == "-0"
    elif isinstance(value, float):
        assert value == float(text)
    elif value is None:
        assert text in ("", "~", "null", "Null", "NULL")
    else:
        assert value == text


KEY = st.from_regex("[a-z0-9]{1,6}", fullmatch=True)
LETTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(LETTERS)
    | st.sampled_from(["off", "007", "12:30", "1e3", "1_000", "~", "<<", "=", "null", "-", "2026-01-01"])
)
PLAIN = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.dictionaries(KEY, PLAIN, min_size=1, max_size=4))
def test_what_is_written_reads_back_the_same(tmp_path_factory: pytest.TempPathFactory, value: dict) -> None:
    file = tmp_path_factory.getbasetemp() / "written.yaml"
    file.write_text(write(value), encoding="utf-8")
    assert read_document(file).value == value


@pytest.mark.slow
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_give_data_or_lines(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    reads_or_refuses(tmp_path_factory, content)


@given(st.text("{}[]:,-&*!|>'\"%@#? \n\tab1<", max_size=60))
def test_any_punctuation_gives_data_or_lines(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    reads_or_refuses(tmp_path_factory, text.encode())


def reads_or_refuses(folders: pytest.TempPathFactory, content: bytes) -> None:
    file = folders.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    try:
        document = read_document(file)
    except ConfigError as error:
        message = str(error)
    else:
        assert isinstance(document.value, dict)
        return
    assert all(line.startswith(str(file)) for line in message.splitlines())


def test_places_are_those_of_keys_and_items(file: Path) -> None:
    file.write_text("# a comment\na:\n  b: 1\n  c:\n    - x\n    - y: 2\nd: &one {e: 1}\nf: *one\n")
    document = read_document(file)
    assert document.value == {"a": {"b": 1, "c": ["x", {"y": 2}]}, "d": {"e": 1}, "f": {"e": 1}}
    assert document.place(("a", "b")) == Place(3, 3)
    assert document.place(("a", "c", 1, "y")) == Place(6, 7)
    assert document.place(("a", "c", 0)) == Place(5, 7)
    assert document.place(("a", "missing")) == Place(2, 1), "a key that is not there has its section's place"
    assert document.place(("f", "e")) == Place(7, 10), "what an alias stands for has its own place"


def test_duplicate_keys_name_both_lines(file: Path) -> None:
    file.write_text("a:\n  b: 1\n  c: 2\n  b: 3\n")
    document = read_document(file)
    assert [str(fault) for fault in document.faults] == [
        f"{file}:4: b: stands twice, first on line 2; keep one"
    ]


def test_keys_are_text_whatever_they_look_like(file: Path) -> None:
    file.write_text("1: a\noff: b\nnull: c\n")
    assert read_document(file).value == {"1": "a", "off": "b", "null": "c"}


def test_a_byte_order_mark_and_windows_lines_are_fine(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: off\r\n")
    assert read_document(file).value == {"a": 1, "b": "off"}


def laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def tower() -> bytes:
    """Few values, but each alias puts 20 levels on top of the last."""
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} {'[' * 20}*a{n - 1} {']' * 20}" for n in range(1, 200)]
    return "\n".join(lines).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n\t\n", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", ":1: the top level must be a mapping"),
        (b"just text", ":1: the top level must be a mapping"),
        (b"a: 1\nb: \xff\xfe\n", ":2: not UTF-8"),
        (b"a: 1\nb: [1, 2\nc: 3\n", ":3: not YAML"),
        (b"a: 1\n\tb: 2\n", ":2: not YAML"),
        (b"a: \x00b", "not YAML: a control character"),
        (b"a: 1\n---\nb: 2\n", ":2: a second document"),
        (b"a: !!python/object/apply:os.system [id]\n", ":1: a tag (!)"),
        (b"a: !secret x\n", ":1: a tag (!)"),
        (b"a: *nobody\n", ":1: an alias (*)"),
        (b"a: &a [*a]\n", ":1: an alias (*)"),
        (b'a: "\\ud800"\n', ":1: half of a surrogate pair"),
        (b'"\\udfff": 1\n', ":1: half of a surrogate pair"),
        (b"[a]: 1\n", ":1: a key must be plain text"),
        (b"a: &x {b: 1}\nc:\n  <<: *x\n", ":3: merge keys (<<)"),
        (b"a: " + b"[" * 100 + b"]" * 100, f"nested deeper than {MAX_DEPTH}"),
        (b"[" * 500_000, f"nested deeper than {MAX_DEPTH}"),
        (laughs(), "values once its aliases are unfolded"),
        (tower(), "levels once its aliases are unfolded"),
        (b"a: " + b"x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_refused_in_one_line(file: Path, content: bytes, said: str) -> None:
    message = one_line(file, content)
    assert said in message
    assert message.startswith(str(file))


@pytest.mark.parametrize(
    "content", [b"p: *hunter2", b"p: !hunter2 x", b"p: @hunter2", b'p: "hunter2', b"p: hunter2: x"]
)
def test_no_message_quotes_a_value_not_even_with_its_causes(file: Path, content: bytes) -> None:
    assert "hunter2" not in one_line(file, content)
    with pytest.raises(ConfigError) as caught:
        read_document(file)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_file_is_not_a_bad_one(file: Path) -> None:
    for path in (file, file / "below", file.parent, Path("a\0b")):
        with pytest.raises(MissingFileError) as caught:
            read_document(path)
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
