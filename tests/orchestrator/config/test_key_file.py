"""Changes to the key file."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.config import Config
from contract.keys import find_anonymous, find_key
from gateway.api.admin.key_bodies import KeyAddition
from orchestrator.config.key_file import KeyFile
from orchestrator.errors import UserError
from orchestrator.terminal.durations import seconds_of


def test_a_new_key_opens_and_a_revoked_one_does_not(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    new = keys.add("bob", ("m-*",))
    assert find_key(keys.records(), new.text, time.time()) == new.record
    keys.revoke("bob")
    assert find_key(keys.records(), new.text, time.time()) is None


def test_a_rotated_key_works_until_its_overlap_ends(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    old = keys.add("bob", ("m-*",), time.time() + 1000)
    new = keys.rotate("bob", overlap_s=60)
    now = time.time()
    assert find_key(keys.records(), old.text, now) is not None
    assert find_key(keys.records(), old.text, now + 61) is None
    assert new.record.models == old.record.models
    assert new.record.expires_unix_s == old.record.expires_unix_s


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: keys.add(f"k{number}"), range(40)))
    assert set(keys.records()) == {new.record.id for new in made}


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyFile(path).add("bob")
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        KeyFile(path).add("eve")


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("bob")
    before = keys.records()
    with pytest.raises(UserError, match="no live key"):
        keys.revoke("eve")
    assert keys.records() == before


@pytest.mark.parametrize(
    "name", ["two\nlines", "\x1b[2Jgone", "a\tb", "x" * 129, "\u2028", "\x85", "\udcff"]
)
def test_a_name_is_one_printable_line(name: str, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    with pytest.raises(UserError, match="a key's name"):
        keys.add(name)
    with pytest.raises(UserError, match="a model's glob"):
        keys.add("bob", (name,))
    assert keys.records() == {}
    keys.add("Zoë, für die Prüfung", ("*",))


def test_a_key_opens_a_model_however_long_its_id_may_be(tmp_path: Path) -> None:
    model_id = "m" * 96
    Config.model_validate({"models": {model_id: {"model_path": "-"}}})
    with pytest.raises(ValidationError):
        Config.model_validate({"models": {model_id + "m": {"model_path": "-"}}})
    assert KeyFile(tmp_path / "keys.json").add("bob", (model_id,)).record.may_use(model_id)
    assert KeyAddition(name="bob", models=[model_id]).models == [model_id]


@pytest.mark.parametrize("text", ["999999999d", "9" * 400 + "s", "5300w"])
def test_a_time_beyond_all_dates_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="too long a time"):
        seconds_of(text)
    assert seconds_of("5200w") == 5200 * 7 * 86_400


def test_one_key_stands_for_requests_without_a_key(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    first, second = keys.add("first", weight=3.0), keys.add("second")
    assert find_anonymous(keys.records(), time.time()) is None
    keys.open_to_all("first", "local")
    keys.open_to_all(second.record.id, "all")
    found = find_anonymous(keys.records(), time.time())
    assert found is not None
    assert (found.id, found.anonymous) == (second.record.id, "all")
    keys.open_to_all("first", "local")
    heir = keys.rotate("first", overlap_s=60).record
    found = find_anonymous(keys.records(), time.time())
    assert found is not None
    assert (found.id, found.weight) == (heir.id, 3.0)
    assert first.record.id in keys.records()
    keys.revoke(heir.id)
    assert find_anonymous(keys.records(), time.time()) is None
    assert keys.close_to_all()
    assert not keys.close_to_all()
