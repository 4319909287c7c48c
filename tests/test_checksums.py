"""Seals: a file tells that it was changed, or that another version wrote it, and others still read it."""

import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from stn_train import storage
from stn_train.errors import UserError
from stn_train.specs import Spec


class Record(Spec):
    """Something to keep."""

    format: Literal[2] = 2
    words: str


@pytest.fixture
def record(tmp_path: Path) -> Path:
    storage.write_record(tmp_path / "record.json", Record(words="häuser").model_dump(mode="json"))
    return tmp_path / "record.json"


def read(path: Path) -> Record:
    return storage.read_record(Record, path, "write it again")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).endswith("write it again")
    return str(caught.value)


def test_what_is_sealed_is_read_back_and_others_read_it_too(record: Path) -> None:
    assert read(record) == Record(words="häuser")
    plain = json.loads(record.read_bytes())
    assert plain.pop("sha256")
    assert plain == {"format": 2, "words": "häuser"}
    path = record.with_name("lines.jsonl")
    storage.write(path, '{"a": 1}\n{"a": 2}\n', storage.LINES)
    assert storage.read_verified(path, storage.LINES, "") == b'{"a": 1}\n{"a": 2}\n'
    assert [list(json.loads(line)) for line in path.read_text().splitlines()] == [["a"], ["a"], ["sha256"]]
    storage.write(path, "", storage.LINES)
    assert storage.read_verified(path, storage.LINES, "") == b""
    path = record.with_name("arrays.npz")
    storage.write_arrays(path, {"a": np.arange(3)})
    with np.load(path) as plain_arrays, np.load(io.BytesIO(storage.read_verified(path, storage.ARCHIVE, ""))) as arrays:
        assert np.array_equal(plain_arrays["a"], np.arange(3))
        assert np.array_equal(arrays["a"], np.arange(3))


@pytest.mark.parametrize("seal", [storage.JSON, storage.LINES, storage.ARCHIVE])
def test_every_single_bit_counts_and_so_does_every_byte_that_is_missing(seal: storage.Seal) -> None:
    content = b"body" + seal[0]
    whole = storage.with_checksum(content, seal)
    assert storage.verified(whole, seal) == content
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert storage.verified(bytes(flipped), seal) is None
    for length in range(len(whole)):
        assert storage.verified(whole[:length], seal) is None


def test_what_was_changed_is_told_by_name_and_how_to_mend_it(record: Path) -> None:
    record.write_text(record.read_text().replace("häuser", "hauser"))
    assert refusal(record).startswith(f"{record} is damaged")
    record.write_text(json.dumps({"format": 2, "words": "written by other hands"}))
    assert "is damaged" in refusal(record)
    record.unlink()
    assert refusal(record).startswith(f"{record} cannot be read: No such file")


def test_another_format_is_told_by_its_number_sealed_or_not(record: Path) -> None:
    record.write_text(json.dumps({"format": 1, "words": "old"}))
    assert refusal(record).startswith(f"{record} has format 1, and this version reads format 2")
    storage.write_record(record, {"format": 3, "words": "new"})
    assert refusal(record).startswith(f"{record} has format 3, and this version reads format 2")
    record.write_text(record.read_text().replace('"format": 3', '"format": 1'))
    assert "is damaged" in refusal(record), "a changed number is no format"


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"words": 1', b"[" * 100_000])
def test_what_is_sealed_and_no_record_is_refused_by_name(record: Path, body: bytes) -> None:
    record.write_bytes(storage.with_checksum(body, storage.JSON))
    assert f"{record} is damaged: " in refusal(record)
    record.write_bytes(body)
    assert f"{record} is damaged: " in refusal(record)
