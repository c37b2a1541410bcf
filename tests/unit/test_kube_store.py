"""The store behind the API server of the tests."""

from tests.support.kube_store import EVENTS, Store


def test_a_name_that_is_made_up_is_one_that_is_free():
    """Five characters are few: of four thousand names some would be the same."""
    store = Store()
    for _ in range(4000):
        store.create(EVENTS, "default", {"metadata": {"generateName": "jupyter-ada."}})
    assert len(store.state(EVENTS)) == 4000
