"""scripts/check_layout.py: each fault is one line that names the place and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.check_layout import LINES, MODULES, main


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def faults(root: Path, capsys: pytest.CaptureFixture[str], **longer: int) -> list[str]:
    code = main(root, longer)
    lines = capsys.readouterr().out.splitlines()
    assert code == bool(lines)
    return lines


def test_this_tree_has_no_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(), capsys.readouterr().out) == (0, "")


def test_two_public_classes_with_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "gateway/a.py", "class Answer: ...\nclass _Own: ...\n")
    write(tmp_path, "workers/b.py", "import os\nclass Answer: ...\nclass _Own: ...\n")
    assert faults(tmp_path, capsys) == [
        "gateway/a.py:1, workers/b.py:2: classes share the name `Answer`; rename all but one"
    ]


def test_a_folder_with_too_many_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("__init__", *(f"m{number}" for number in range(MODULES))):
        write(tmp_path, f"gateway/http/{name}.py")
    assert faults(tmp_path, capsys) == []
    write(tmp_path, "gateway/http/one_more.py")
    assert faults(tmp_path, capsys) == [
        f"gateway/http/: {MODULES + 1} modules, {MODULES} at most; put one subject in a subfolder"
    ]


def test_a_docstring_or_comment_without_a_subject(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '"""What a key may do."""\n#: What a key may do.\nx = 1  # What a key may do.\n'
    write(tmp_path, "tests/a.py", text)
    write(tmp_path, "gateway/b.py", "# What if it is gone?\n# Whatever\n")
    found = faults(tmp_path, capsys)
    assert [line.partition(": ")[0] for line in found] == ["tests/a.py:1", "tests/a.py:2"]
    assert "name the subject" in found[0]


def test_a_file_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "workers/a.py", "\n" * LINES)
    assert faults(tmp_path, capsys) == []
    write(tmp_path, "workers/a.py", "\n" * (LINES + 1))
    advice = "move one noun to a file of its own"
    assert faults(tmp_path, capsys) == [
        f"workers/a.py: {LINES + 1} lines, {LINES} at most; {advice}"
    ]
    assert faults(tmp_path, capsys, **{"workers/a.py": LINES + 1}) == []
    write(tmp_path, "workers/a.py", "\n" * (LINES + 2))
    assert faults(tmp_path, capsys, **{"workers/a.py": LINES + 1}) == [
        f"workers/a.py: {LINES + 2} lines, {LINES + 1} at most; {advice}"
    ]


def test_the_list_of_longer_files_only_shrinks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "workers/a.py", "\n" * LINES)
    longer = {"workers/a.py": LINES + 1, "workers/gone.py": LINES + 1}
    assert faults(tmp_path, capsys, **longer) == [
        f"{name}: needs no entry in LONGER (scripts/check_layout.py) any more; delete it"
        for name in longer
    ]
