#!/usr/bin/env bash
# A Kubernetes control plane on this machine: etcd, kube-apiserver, kube-controller-manager. Nothing runs the pods.
#   tools/control-plane.sh FOLDER [COMMAND ...]
# Builds them and kubectl into FOLDER/bin with Go (some minutes, once), starts them on free ports of 127.0.0.1, and runs
# COMMAND with KUBECONFIG set; without a command it prints KUBECONFIG and waits for Ctrl-C. Then it ends them.
set -euo pipefail
kubernetes=v1.34.4 etcd=v3.6.5
minor=${kubernetes#v1.}  # and patch
folder=${1:?"say where to build: tools/control-plane.sh FOLDER [COMMAND ...]"}
shift
mkdir -p "$folder/bin" "$folder/source"
folder=$(cd "$folder" && pwd)
bin=$folder/bin
export PATH="$bin:$PATH"

# build MODULE PACKAGE NAME: one program
build() {
  local version=k8s.io/component-base/version
  # Helm asks for the version; a build of Kubernetes knows its own only when it is told
  local flags="-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}"
  [ -x "$bin/$3" ] && return
  echo "Building $3 ..." >&2
  (cd "$folder/source/$1" && go build -mod=mod -ldflags "$flags" -o "$bin/$3" "$2")
}

# module NAME LINE ...: a Go module from which the programs of others are built
module() {
  [ -e "$folder/source/$1/go.mod" ] && return
  mkdir -p "$folder/source/$1"
  printf '%s\n' "module $1" "${@:2}" >"$folder/source/$1/go.mod"
}

module etcd "require go.etcd.io/etcd/server/v3 $etcd"
printf '%s\n' 'package main' 'import ("os"; "go.etcd.io/etcd/server/v3/etcdmain")' \
  'func main() { etcdmain.Main(os.Args) }' >"$folder/source/etcd/main.go"
build etcd . etcd
if [ ! -e "$folder/source/kubernetes/go.mod" ]; then
  # what Kubernetes has in its own tree (v0.0.0 in its go.mod) is published as modules of the same minor version
  mod=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/^.*"GoMod": "\(.*\)",$/\1/p')
  mapfile -t staged < <(awk '$2 == "v0.0.0" {print "replace " $1 " => " $1 " v0.'"$minor"'"}' "$mod")
  module kubernetes "require k8s.io/kubernetes $kubernetes" "${staged[@]}"
fi
for program in kube-apiserver kube-controller-manager kubectl; do
  build kubernetes "k8s.io/kubernetes/cmd/$program" "$program"
done

run=$(mktemp -d "$folder/run.XXXXXX")
pids=()
finish() {
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null && wait "${pids[i]}" || true
  done
  rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start() {
  "$@" >"$run/$(basename "$1").log" 2>&1 &
  pids+=($!)
}

read -r client peer port < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
token=$(openssl rand -hex 16)
echo "$token,admin,admin,system:masters" >"$run/tokens.csv"
openssl genrsa -out "$run/accounts.key" 2048 2>/dev/null
export KUBECONFIG=$run/kubeconfig
cat >"$KUBECONFIG" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: local, cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$run/certs/apiserver.crt"}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: local, context: {cluster: local, user: admin}}]
current-context: local
YAML

start etcd --data-dir "$run/etcd" --listen-client-urls "http://127.0.0.1:$client" \
  --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer"
start kube-apiserver --etcd-servers "http://127.0.0.1:$client" --bind-address 127.0.0.1 --secure-port "$port" \
  --cert-dir "$run/certs" --token-auth-file "$run/tokens.csv" --authorization-mode RBAC \
  --service-cluster-ip-range 10.0.0.0/24 --service-account-issuer https://kubernetes.default.svc \
  --service-account-key-file "$run/accounts.key" --service-account-signing-key-file "$run/accounts.key"
# ready: asks COMMAND ... until it succeeds; gives up when a process has ended, or after a minute
ready() {
  for _ in $(seq 120); do
    "$@" >"$run/ready.log" 2>&1 && return
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 5 "$run"/*.log >&2
  exit 1
}
ready kubectl get --raw /readyz
start kube-controller-manager --kubeconfig "$KUBECONFIG" --secure-port 0 --use-service-account-credentials \
  --service-account-private-key-file "$run/accounts.key" --root-ca-file "$run/certs/apiserver.crt"
ready kubectl --namespace default get serviceaccount default

if [ $# -gt 0 ]; then
  "$@"
else
  echo "export KUBECONFIG=$KUBECONFIG PATH=$bin:\$PATH"
  wait -n || { tail -n 5 "$run"/*.log >&2; exit 1; }
fi
