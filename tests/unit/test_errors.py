"""The catalogue, its documentation, and what a person gets to see of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from binderhub_ext.errors import CATALOGUE, LaunchError, on_one_line

DOCS = (Path(__file__).parents[2] / "docs/errors.md").read_text()


def test_the_documentation_has_the_rows_of_the_catalogue_in_their_order():
    assert re.findall(r"^### `(.+)`$", DOCS, re.M) == list(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_the_documentation_says_what_the_page_says(entry):
    section = DOCS.split(f"### `{entry.code}`\n", 1)[1].split("\n#", 1)[0]
    assert f"{entry.title}.\n" in section
    assert f"What the person can do: {entry.hint}\n" in section
    assert f"may help: {'yes' if entry.retryable else 'no'}\n" in section
    assert f"Who can mend it: {entry.mender.value}\n" in section
    assert "Where to look: " in section


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_each_row_is_a_sentence_with_something_to_do(entry):
    assert entry.title[0].isupper() and not entry.title.endswith(".")
    assert entry.hint.endswith(".")
    assert 400 <= entry.status_code < 600


def test_a_code_that_is_not_in_the_catalogue_cannot_be_raised():
    with pytest.raises(KeyError):
        LaunchError("no.such")


def test_the_failed_event_has_binderhubs_keys_first_and_ours_beside_them():
    event = LaunchError("ref.not_found", detail="There is no 'x'.", reference="abcd").as_event()
    assert list(event) == ["phase", "status_code", "message", "error"]
    assert event["message"].endswith("'x'.\n")
    assert json.loads(json.dumps(event["error"])) == {
        "code": "ref.not_found",
        "title": CATALOGUE["ref.not_found"].title,
        "detail": "There is no 'x'.",
        "hint": CATALOGUE["ref.not_found"].hint,
        "retryable": False,
        "reference": "abcd",
    }


def test_a_cause_is_told_on_one_line_also_when_its_repr_is_empty():
    class ApiException(Exception):
        def __init__(self, status):
            self.status = status

        def __str__(self):
            return f"({self.status})\nReason: Forbidden\n"

    assert on_one_line(ApiException(403)) == "ApiException: (403) Reason: Forbidden"
    assert on_one_line(OSError()) == "OSError()"
