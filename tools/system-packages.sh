#!/usr/bin/env bash
# Brings what the tests need beside Python: Helm, a Chromium, nginx, promtool. Debian's packages where apt and root
# are there; else Playwright's Chromium, and a line that says what is missing.
#   tools/system-packages.sh VENV
set -euo pipefail
venv=$1
"$(dirname "$0")/helm.sh" "$venv"
declare -A package=([chromium]=chromium [nginx]=nginx [promtool]=prometheus)
missing=()
for command in "${!package[@]}"; do
  PATH="$PATH:/usr/sbin" command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing ${missing[*]} ..." >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # policy-rc.d: the daemons that come with these packages must not be started
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "These are missing, and the tests that need them will be skipped: ${missing[*]}" >&2
  case " ${missing[*]} " in *" chromium "*) "$venv/bin/playwright" install chromium ;; esac
fi
