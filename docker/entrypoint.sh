#!/bin/sh
# Runs canet with the machine code that the image brought. It is copied to where it can be written
# first: numba uses no cache that it cannot write, and compiling takes seconds of every start.
set -eu
if [ ! -e "$NUMBA_CACHE_DIR" ] && ! cp -R "${COMPILED:-/opt/canet/compiled}" "$NUMBA_CACHE_DIR"; then
    echo "entrypoint: $NUMBA_CACHE_DIR cannot be written; code is compiled at every start" >&2
fi
exec canet "$@"
