# Everything is installed into .venv and node_modules of this checkout, nothing else is touched.
#   make demo    launch the demo repository in a browser (Ctrl-C stops everything)
#   make test    all checks and tests
#   make soak    many launches with faults at random, for some minutes
#   make bench   performance, as ratios against a peer in the same run
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_LINK_MODE ?= copy
# the environment's commands first; its node and npm (from PyPI) only where the system has none
RUN := PATH="$(CURDIR)/$(BIN):$$PATH:$(CURDIR)/$(VENV)/node/bin"

.PHONY: demo test test-binderhub test-kubernetes check bench soak clean install

demo: $(VENV)/.installed
	@$(RUN) exec $(BIN)/python -m binderhub_ext.local --data-dir .demo $(ARGS)

test: check $(VENV)/.system
	@$(RUN) tools/test.sh $(BIN)/python $(ARGS)

# With another BinderHub, such as a checkout of its main branch: make test-binderhub BINDERHUB=../binderhub
test-binderhub: $(VENV)/.installed
	@test -n "$(BINDERHUB)" || { echo "Say which: make test-binderhub BINDERHUB=<checkout>"; exit 1; }
	@tools/test-binderhub.sh $(VENV) "$(BINDERHUB)" $(ARGS)

check: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "ruff format would change files: run $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

# The API server of the tests, and a real one, answer the same tests alike, before a real Hub too; the chart and the watchdog
# are tested on the real one. Writes to the namespace `default`, and to namespaces and nodes that it makes, which need no
# machine. Without a cluster: tools/control-plane.sh
ON_BOTH := tests/kube/test_kube_api.py tests/kube/test_kube_cluster.py
test-kubernetes: $(VENV)/.installed
	@test -n "$$KUBECONFIG" || { echo "Set KUBECONFIG to a cluster that may be written to"; exit 1; }
	@tools/helm.sh $(VENV)
	@$(RUN) $(BIN)/python -m pytest $(ON_BOTH) $(ARGS)
	@coproc kubectl proxy --port=0; proxy=$$COPROC_PID; trap 'kill $$proxy' EXIT; read -r line <&$${COPROC[0]}; \
	KUBE_TEST_SERVER="http://$${line##* }" $(RUN) $(BIN)/python -m pytest $(ON_BOTH) \
	  tests/chart/test_cluster.py tests/watchdog/test_cluster.py $(ARGS)

bench: $(VENV)/.installed
	@$(RUN) $(BIN)/python -m benchmarks $(ARGS)

# A thousand launches with faults at random: SOAK=N for another number
soak: $(VENV)/.installed
	@$(RUN) SOAK=$${SOAK:-1000} $(BIN)/python -m pytest -m soak -s $(ARGS)

install: $(VENV)/.installed

# Python packages with uv: it accepts the metadata of PyPI's binderhub 0.1.0, which pip 24.1 and later refuse
$(VENV)/.installed: setup.py pyproject.toml package.json package-lock.json tools/environment.sh
	@tools/environment.sh "$(PYTHON)" "$(VENV)"
	@touch $@

# Chromium, nginx, promtool: Debian's packages where apt and root are there
$(VENV)/.system: $(VENV)/.installed tools/system-packages.sh tools/helm.sh
	@tools/system-packages.sh "$(VENV)"
	@touch $@

clean:
	rm -rf $(VENV) node_modules build dist *.egg-info binderhub_ext/web/static/dist
