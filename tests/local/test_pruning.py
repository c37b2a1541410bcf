"""Old environments go, those that are used stay."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from binderhub_ext.local import cli
from binderhub_ext.local.images import Image
from binderhub_ext.local.pruning import prune

NOW = 1_700_000_000.0
LIMIT = NOW - 30 * 86400


def made(root: Path, name: str, *, age: float, whole: bool = True) -> Image:
    """Return an image that was last used so many days ago."""
    image = Image.named(name, root)
    image.repo.mkdir(parents=True)
    (image.repo / "README.md").write_text("here\n")
    path = image.path
    if whole:
        image.commit()
        path = image.manifest
    os.utime(path, (NOW - age * 86400,) * 2)
    return image


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "half-made"])
def test_what_was_not_used_for_long_is_removed_with_its_lock(tmp_path, whole):
    old = made(tmp_path, "old", age=31, whole=whole)
    with old.locked(threading.Event()):
        pass
    new = made(tmp_path, "new", age=29, whole=whole)
    assert prune(tmp_path, LIMIT) == [old.path.name]
    assert [path.name for path in (tmp_path / "images").iterdir()] == [new.path.name]


def test_what_a_process_still_builds_is_left_alone(tmp_path):
    old = made(tmp_path, "old", age=99)
    with old.locked(threading.Event()):
        assert prune(tmp_path, LIMIT) == []
        assert old.manifest.exists()
    assert prune(tmp_path, LIMIT) == [old.path.name]


def test_an_image_from_which_a_server_is_started_is_new_again(tmp_path):
    image = made(tmp_path, "old", age=99)
    image.mark_used()
    assert prune(tmp_path, LIMIT) == []


def test_folders_that_may_not_be_written_to_are_removed_too(tmp_path):
    old = made(tmp_path, "old", age=31)
    old.repo.chmod(0o500)
    assert prune(tmp_path, LIMIT) and not old.path.exists()


@pytest.mark.parametrize("days", ["-1", "soon", "inf", "nan"])
def test_a_number_of_days_that_is_none(capsys, days):
    with pytest.raises(SystemExit) as ending:
        cli.main([f"--keep-images={days}"])
    assert ending.value.code == 2 and "--keep-images" in capsys.readouterr().err


def test_the_help_says_how_long_environments_are_kept(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "--keep-images DAYS" in capsys.readouterr().out
