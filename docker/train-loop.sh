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
# `$!` is set with the fork itself; a variable set on the next line would leave a moment in which
# the signal finds no child to pass it on to.
stop() {
    trap '' TERM INT
    if [ -n "${!:-}" ]; then
        kill -TERM "$!" 2>/dev/null
        wait "$!"
    fi
    exit 0
}
# A signal that comes just before the shell's `wait` is acted on only when the wait ends. Steps of
# a second keep that short, for the pause as for the training.
pause() {
    left=$1
    while [ "$left" -gt 0 ]; do
        sleep 1
        left=$((left - 1))
    done
}
trap stop TERM INT
while :; do
    if [ -e "$TRAIN_DATA" ]; then
        # shellcheck disable=SC2086  # the arguments are words on purpose
        canet train --data "$TRAIN_DATA" --out "$MODELS" $TRAIN_ARGUMENTS &
        wait "$!"
        code=$?
        child=
    else
        echo "trainer: $TRAIN_DATA does not exist; put your interactions there (TRAIN_DATA_DIR)" >&2
        code=2
    fi
    echo "$code" >"$LAST_RUN"
    echo "trainer: run ended with exit code $code; next one in $TRAIN_INTERVAL_SECONDS s"
    pause "$TRAIN_INTERVAL_SECONDS"
done
