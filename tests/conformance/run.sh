#!/bin/sh
# Runs the runner of a BoringSSL checkout against our shim. README.md says how to get a checkout.
#
#   tests/conformance/run.sh CHECKOUT [flags of the runner, for example -test 'DTLS-Retransmit-*']
set -eu

[ $# -ge 1 ] || { echo "usage: $0 CHECKOUT [flags of the runner]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
runner=$(cd "$1/ssl/test/runner" && pwd)
shift

cd "$root"
"${CARGO:-cargo}" build --quiet --example conformance-shim
target=${CARGO_TARGET_DIR:-$root/target}

# The runner looks for its keys where its sources are.
cd "$runner"
exec go test . -v -count=1 -timeout 60m -args \
  -shim-path "$target/debug/examples/conformance-shim" \
  -shim-config "$root/tests/conformance/config.json" \
  -pipe "$@"
