"""The Hub's spawner of the Docker builder: a container with Jupyter Server, published on 127.0.0.1."""

from __future__ import annotations

import asyncio
from typing import Any

import docker.errors
from jupyterhub.spawner import Spawner

from binderhub_ext.local import containers
from binderhub_ext.local.binder_options import binder_environment, image_and_token
from binderhub_ext.local.server_probe import StartFailed, wait_until_it_answers
from binderhub_ext.local.settings import Settings
from binderhub_ext.timing import Deadline

_PORT = "8888/tcp"


class ContainerSpawner(Spawner):
    """Start a container from an image that repo2docker made."""

    container: Any = None

    async def start(self) -> str:
        """Start the container and return the server's address, once it answers.

        Raises
        ------
        StartFailed
            When the engine refuses, or the container ends at once.
        """
        image, token = image_and_token(self.user_options)
        try:
            self.container = await asyncio.to_thread(self._run, image, token)
        except docker.errors.DockerException as error:
            raise StartFailed(f"The container could not be started: {error}") from error
        published = self.container.attrs["NetworkSettings"]["Ports"][_PORT][0]["HostPort"]
        url = f"http://127.0.0.1:{published}"
        api = f"{url}{self.server.base_url}api"
        if not await wait_until_it_answers(api, Deadline.after(self.start_timeout), self._runs):
            log = await asyncio.to_thread(self._last_lines)
            raise StartFailed(f"Jupyter Server did not answer:\n{log}")
        return url

    async def poll(self) -> int | None:
        """Return None while the container runs, else its exit code."""
        return None if self.container is not None and await self._runs() else 1

    async def stop(self, now: bool = False) -> None:
        """Remove the container, whether it runs or not."""
        container, self.container = self.container, None
        if container is not None:
            await asyncio.to_thread(_remove, container)

    def _run(self, image: str, token: str) -> Any:
        environment = self.get_env() | binder_environment(self.user_options) | {"JUPYTER_TOKEN": token}
        container = containers.client().containers.run(
            image,
            [
                *("jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"),
                f"--ServerApp.base_url={self.server.base_url}",
                "--ServerApp.trust_xheaders=True",
                *self.get_args(),
            ],
            detach=True,
            environment=environment,
            labels={containers.RUN_LABEL: Settings.from_environment().run_id},
            ports={_PORT: ("127.0.0.1", None)},
        )
        for _ in range(100):
            container.reload()
            if container.attrs["NetworkSettings"]["Ports"].get(_PORT) or container.status == "exited":
                break
        return container

    async def _runs(self) -> bool:
        def look() -> bool:
            try:
                self.container.reload()
            except docker.errors.NotFound:
                return False
            return bool(self.container.status in {"created", "running"})

        return await asyncio.to_thread(look)

    def _last_lines(self) -> str:
        return str(self.container.logs(tail=10).decode("utf-8", "replace"))


def _remove(container: Any) -> None:
    try:
        container.stop(timeout=2)
        container.remove(force=True)
    except docker.errors.NotFound:
        return
