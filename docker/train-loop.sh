#!/bin/sh
# Trains now and then every TRAIN_INTERVAL_SECONDS, until SIGTERM, which is passed on to a running
# training. A failed run is reported and tried again at the next turn: the service keeps
# serving what CURRENT names. The last exit code stands in /tmp/last-run for the health check.
# With arguments it runs that one `canet` command instead: train, evaluate, checkpoints ...
set -u
if [ "$#" -gt 0 ]; then
    exec canet "$@"
fi
: "${TRAIN_DATA:=/data/interactions.csv}" "${TRAIN_INTERVAL_SECONDS:=86400}" "${TRAIN_ARGUMENTS:=}"
: "${MODELS:=/models}" "${LAST_RUN:=/tmp/last-run}"
child=
stop() {
    trap '' TERM INT
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        wait "$child"
    fi
    exit 0
}
trap stop TERM INT
while :; do
    if [ -e "$TRAIN_DATA" ]; then
        # shellcheck disable=SC2086  # the arguments are words on purpose
        canet train --data "$TRAIN_DATA" --out "$MODELS" $TRAIN_ARGUMENTS &
        child=$!
        wait "$child"
        code=$?
    else
        echo "trainer: $TRAIN_DATA does not exist; put your interactions there (TRAIN_DATA_DIR)" >&2
        code=2
    fi
    echo "$code" >"$LAST_RUN"
    echo "trainer: run ended with exit code $code; next one in $TRAIN_INTERVAL_SECONDS s"
    sleep "$TRAIN_INTERVAL_SECONDS" &
    child=$!
    wait "$child"
done
