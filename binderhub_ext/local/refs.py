"""Finds the commit that a branch, a tag or a commit id of a repository stands for."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile

from binderhub_ext.errors import LaunchError
from binderhub_ext.local import git

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{4,63}")
# what `git check-ref-format` forbids, and revision syntax such as main~1
_NOT_A_REF = re.compile(r"\.\.|@\{|[\s~^:?*\[\\]|//|^[-/]|[/.]$|\.lock$|^@$")


def check_ref(ref: str) -> None:
    """Raise ``spec.invalid`` when no repository can have a ref of this name."""
    if not ref or not ref.isprintable() or len(ref) > 1000 or _NOT_A_REF.search(ref):
        raise LaunchError("spec.invalid", detail="This cannot be the name of a branch, a tag or a commit.")


async def resolve(address: str, ref: str) -> str | None:
    """Return the full commit id of a ref, or None when the repository has no such ref.

    Branches come before tags, tags before abbreviated commit ids; ``HEAD`` is the default branch.

    Parameters
    ----------
    address : str
        What `git.parse_address` returned.

    Raises
    ------
    LaunchError
        ``spec.invalid``, ``repo.not_found``, or ``repo.unreachable`` (retryable).
    """
    check_ref(ref)
    names = [ref] if ref == "HEAD" or ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    # an annotated tag is an object of its own; the commit that it names is listed as <tag>^{}
    wanted = [name for plain in names for name in (plain + "^{}", plain)]
    result = await git.run("ls-remote", "--", address, *wanted)
    if result.returncode:
        raise git.error_of(result)
    found = {
        name: commit for commit, _, name in (line.partition("\t") for line in result.stdout.splitlines())
    }
    for name in wanted:
        if name in found:
            return found[name]
    if address.startswith("/") and _SHORT_COMMIT.fullmatch(ref):
        return await _commit_in(address, ref)
    if _COMMIT.fullmatch(ref):
        return ref  # the build says when the repository has no such commit
    if _SHORT_COMMIT.fullmatch(ref):
        return await _commit_of_remote(address, ref)
    return None


async def _commit_in(repository: str, commit: str) -> str | None:
    result = await git.run("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", cwd=repository)
    return result.stdout.strip() if result.returncode == 0 else None


async def _commit_of_remote(address: str, commit: str) -> str | None:
    """Look an abbreviated commit id up in a clone that holds commits only."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="binderhub-ext-")
    try:
        result = await git.run(
            "clone", "--quiet", "--bare", "--filter=tree:0", "--", address, f"{folder}/commits"
        )
        if result.returncode:
            raise git.error_of(result)
        return await _commit_in(f"{folder}/commits", commit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
