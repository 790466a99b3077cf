#!/bin/sh
# Gives a fresh stack something to serve: without a published checkpoint, a small one is trained
# on SYNTHETIC interactions. It does nothing once CURRENT exists, so real models are never touched.
set -eu
models=${MODELS:-/models}
if [ -f "$models/CURRENT" ]; then
    echo "bootstrap: $(cat "$models/CURRENT") is published already; nothing to do"
    exit 0
fi
echo "bootstrap: no checkpoint in $models; training a small one on SYNTHETIC data"
echo "bootstrap: replace it with your own: see 'Train on your own data' in docs/operations.md"
data=$(mktemp -d)
canet demo-data --synthetic --users 1500 --items 1000 --cache "$data" --json >"$data/paths.json"
path() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$data/paths.json" "$1"; }
exec canet-entrypoint train --data "$(path interactions)" --items "$(path items)" --out "$models" \
    --max-minutes "${BOOTSTRAP_MAX_MINUTES:-0.15}"
