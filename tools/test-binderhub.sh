#!/usr/bin/env bash
# Runs the service's tests with another BinderHub than PyPI's.
#   tools/test-binderhub.sh VENV BINDERHUB [pytest arguments]
# BINDERHUB is anything that pip can install: a checkout, an archive.
set -euo pipefail
venv=$1 binderhub=$2
shift 2
other=$venv-binderhub
if [ ! -e "$other/.installed" ]; then
  "$venv/bin/uv" venv --quiet --clear --python "$venv/bin/python" "$other"
  "$venv/bin/uv" pip install --quiet --python "$other/bin/python" "$binderhub"
  "$venv/bin/uv" pip install --quiet --python "$other/bin/python" --editable '.[local,kubernetes,test]'
  touch "$other/.installed"
fi
"$other/bin/python" -c 'import binderhub; print("BinderHub", binderhub.__version__)'
PATH="$PWD/$other/bin:$PATH:$PWD/$venv/node/bin" "$other/bin/python" -m pytest tests/unit tests/integration tests/e2e/test_login.py "$@"
