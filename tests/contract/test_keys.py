"""API keys: their form, the file that keeps their digests, and which of them are live."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import msgspec
import pytest

from contract import keys
from contract.keys import KeyFileError, KeyRecord, find_key, make_key, read_keys


def write_keys(path: Path, records: list[KeyRecord], mode: int = 0o600) -> None:
    path.write_bytes(msgspec.json.encode(records))
    path.chmod(mode)


def test_a_key_has_its_form_and_is_found_by_it() -> None:
    key = make_key("laptop", ("qwen*",), expires_unix_s=5.0)
    assert re.fullmatch(r"ew_[a-z2-7]{8}_[A-Za-z0-9]{43}_[0-9a-f]{8}", key.text)
    assert key.text.startswith(f"ew_{key.record.id}_")
    assert (key.record.name, key.record.models, key.record.expires_unix_s) == (
        "laptop",
        ("qwen*",),
        5.0,
    )
    assert abs(key.record.created_unix_s - time.time()) < 5
    assert find_key({key.record.id: key.record}, key.text, now_unix_s=0) == key.record


def test_no_two_keys_are_alike() -> None:
    texts = {make_key().text for _ in range(50)}
    assert len({text.split("_")[1] for text in texts}) == 50
    assert len({text.split("_")[2] for text in texts}) == 50


def test_only_the_digest_of_the_secret_is_kept(tmp_path: Path) -> None:
    key = make_key()
    write_keys(tmp_path / "keys.json", [key.record])
    secret = key.text.split("_")[2]
    kept = (tmp_path / "keys.json").read_text()
    assert secret not in kept
    assert hashlib.sha256(secret.encode()).hexdigest() in kept


def test_a_mistyped_key_is_told_by_its_checksum_without_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = make_key()
    monkeypatch.setattr(keys, "_digest", _refuse)
    for place in range(len(key.text)):
        other = "x" if key.text[place] != "x" else "y"
        mistyped = key.text[:place] + other + key.text[place + 1 :]
        assert find_key({key.record.id: key.record}, mistyped, 0) is None


def _refuse(secret: str) -> str:
    raise AssertionError("a mistyped key must not be looked up")


@pytest.mark.parametrize("shape", ["{}\n", " {}", "{}x", "Bearer {}", "{}_", ""])
def test_a_key_with_something_around_it_is_none(shape: str) -> None:
    key = make_key()
    assert find_key({key.record.id: key.record}, shape.format(key.text), 0) is None


def test_the_secret_counts_and_not_the_id_alone() -> None:
    key, other = make_key(), make_key()
    record = msgspec.structs.replace(other.record, id=key.record.id)
    assert find_key({record.id: record}, key.text, 0) is None


@pytest.mark.parametrize("is_known", [True, False])
def test_known_and_unknown_ids_take_the_same_path(
    monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    compared: list[tuple[str, str]] = []

    def compare(wanted: str, given: str) -> bool:
        compared.append((wanted, given))
        return wanted == given

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    key = make_key()
    find_key({key.record.id: key.record} if is_known else {}, key.text, 0)
    ((wanted, given),) = compared
    assert len(wanted) == len(given) == 64


def test_a_key_is_live_until_it_expires_or_is_revoked() -> None:
    record = KeyRecord("id", "", expires_unix_s=10.0)
    assert [record.is_live(now) for now in (9.9, 10.0, 11.0)] == [True, False, False]
    revoked = KeyRecord("id", "", revoked_unix_s=5.0, expires_unix_s=10.0)
    assert [revoked.is_live(now) for now in (4.9, 5.0, 11.0)] == [True, False, False]
    assert KeyRecord("id", "").is_live(1e12)


def test_a_key_that_is_not_live_is_not_found() -> None:
    key = make_key(expires_unix_s=10.0)
    records = {key.record.id: key.record}
    assert find_key(records, key.text, 9.0) is not None
    assert find_key(records, key.text, 10.0) is None


@pytest.mark.parametrize(
    ("models", "allowed", "denied"),
    [
        (("*",), ["qwen", "Llama-3"], []),
        (("qwen*",), ["qwen", "qwen2.5"], ["Qwen", "my-qwen"]),
        (("a", "b-?"), ["a", "b-1"], ["ab", "b-12"]),
        (("[ab]*",), ["a1"], ["c1"]),
        ((), [], ["a"]),
    ],
)
def test_a_key_may_use_the_models_that_its_globs_match(
    models: tuple[str, ...], allowed: list[str], denied: list[str]
) -> None:
    record = KeyRecord("id", "", models=models)
    assert [model for model in allowed + denied if record.may_use(model)] == allowed


def test_keys_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    records = [make_key(str(n)).record for n in range(3)]
    write_keys(tmp_path / "keys.json", records)
    assert read_keys(tmp_path / "keys.json") == {record.id: record for record in records}


def test_there_are_no_keys_before_the_first_is_made(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "keys.json") == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o660, 0o601, 0o644])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    write_keys(tmp_path / "keys.json", [], mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_keys(tmp_path / "keys.json")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_of_ones_own_is_read(tmp_path: Path, mode: int) -> None:
    write_keys(tmp_path / "keys.json", [], mode)
    assert read_keys(tmp_path / "keys.json") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[{}]",
        json.dumps([{"id": "a"}]),
        json.dumps([{"id": "a", "sha256": "b", "x": 1}]),
        "\xff",
    ],
)
def test_a_damaged_key_file_is_refused_and_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"keys\.json is damaged"):
        read_keys(path)


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_keys(tmp_path)
