"""Every row of the catalogue is provoked by a test; here those that no fault and no other test provokes."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from binderhub_ext.errors import CATALOGUE, LaunchError
from binderhub_ext.launch.launches import Launches
from binderhub_ext.upstream import IS_MAIN, Upstream
from tests.integration.test_faults import ROWS
from tests.support.stack import Service, read

TESTS = Path(__file__).parents[1]

# code -> the test that provokes it, where it is not a row of the table of faults
ELSEWHERE = {
    "cluster.unreachable": "integration/test_quota.py::test_pods_that_cannot_be_counted_are_the_clusters_error",
    "provider.unknown": "integration/test_stream.py::test_bad_input_is_answered_readably_and_leaves_nothing",
    "spec.invalid": "integration/test_stream.py::test_bad_input_is_answered_readably_and_leaves_nothing",
    "ticket.invalid": "integration/test_stream.py::test_forged_and_foreign_tickets_and_ids_are_refused",
    "launch.abandoned": "integration/test_stream.py::test_a_late_comer_to_a_given_up_launch_is_told_so",
    "rate.limited": "integration/test_operations.py::test_an_address_has_its_limits",
    "quota.user": "unit/test_start.py::test_a_user_has_only_so_many_named_servers",
    "request.invalid": "integration/test_answers.py::test_a_request_that_is_not_accepted",
    "request.forbidden": "integration/test_answers.py::test_whoever_is_not_logged_in",
    "ticket.expired": "integration/test_answers.py::test_a_ticket_that_is_too_old",
    "quota.repo": "integration/test_answers.py::test_a_repository_that_too_many_use",
    "service.stopping": "integration/test_answers.py::test_a_service_that_is_stopping_takes_no_launches",
}


def test_every_row_of_the_catalogue_is_provoked():
    assert {row.ends for row in ROWS} - {"ready"} | set(ELSEWHERE) == set(CATALOGUE)
    assert len(ROWS) >= 40 and len({row.says for row in ROWS}) == len(ROWS)
    assert {row.stage for row in ROWS} >= {"resolving", "image", "slot", "build", "create user", "start server",
                                           "spawn", "progress", "browser", "clean-up"}  # fmt: skip


@pytest.mark.parametrize("code", ELSEWHERE)
def test_the_test_that_provokes_it_is_there(code):
    path, _, name = ELSEWHERE[code].partition("::")
    text = (TESTS / path).read_text()
    assert re.search(rf"^(async )?def {name}\(", text, re.M) and f'"{code}"' in text


async def code_of(url: str, **options: object) -> str:
    return (await read(url, seconds=20, **options))[-1]["error"]["code"]


async def test_a_request_that_is_not_accepted(hub, service):
    url = service.build_url(lines=0)
    assert await code_of(url + "?build_only=true") == "request.invalid"
    assert await code_of(url, headers={"Accept": "text/html"}) == "request.invalid"
    assert await hub.users() == []


async def test_a_ticket_that_is_too_old(hub):
    service = await Service(hub, name="forgetful", Launcher__ticket_lifetime=-1.0).start()
    try:
        url = service.build_url(lines=0, resolve="none")
        ticket = (await read(url))[0]["ticket"]
        assert await code_of(f"{url}?launch={ticket}") == "ticket.expired"
    finally:
        service.stop()


async def test_whoever_is_not_logged_in(hub):
    service = Service(hub, name="log-in", BinderHub__auth_enabled=True)
    await service.start()
    try:
        assert await code_of(service.build_url(lines=0)) == "request.forbidden"
        assert await hub.users() == []
    finally:
        service.stop()


def test_a_service_that_is_stopping_takes_no_launches():
    launches = Launches(SimpleNamespace())
    launches.closing = True
    with pytest.raises(LaunchError) as error:
        launches.start(None, None, first_number=1, resumed=False)
    assert error.value.code == "service.stopping" and error.value.row.retryable


@pytest.mark.skipif(IS_MAIN, reason="main asks a quota class")
async def test_a_repository_that_too_many_use():
    """The quota counts pods: the answer of a cluster's API stands in for a cluster."""
    from concurrent.futures import ThreadPoolExecutor

    def pods(**images: int) -> SimpleNamespace:
        containers = [
            [SimpleNamespace(image=f"{name}:abc")] for name, count in images.items() for _ in range(count)
        ]
        items = [SimpleNamespace(spec=SimpleNamespace(containers=of)) for of in containers]
        return SimpleNamespace(list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=items))

    repository = SimpleNamespace(image_name="repo:def", repo_url="http://repos.test/x")
    with ThreadPoolExecutor(1) as executor:
        settings = {"per_repo_quota": 3, "build_namespace": "ns", "executor": executor}
        app = SimpleNamespace(tornado_app=SimpleNamespace(settings=settings))
        settings["kubernetes_client"] = pods(repo=2, other=9)
        await Upstream(app).check_quota(repository)
        settings["kubernetes_client"] = pods(repo=3)
        with pytest.raises(LaunchError) as error:
            await Upstream(app).check_quota(repository)
    assert error.value.code == "quota.repo" and "Too many users" in error.value.message
