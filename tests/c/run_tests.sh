#!/bin/sh
# Runs each test binary given with a timeout; one line each, then the sum.
# usage: run_tests.sh LAUNCHER BINARY...    (LAUNCHER: words put before each; may be empty)
launcher=$1
shift
passed=0
failed=0
for binary in "$@"; do
    log=$binary.log
    # The launcher is a list of words.
    # shellcheck disable=SC2086
    if timeout --kill-after=5 120 $launcher "$binary" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    ${binary##*/} $(sed -n 's/^  \([0-9]* cases\)$/(\1)/p' "$log")"
        grep '^  skipped: ' "$log"
    else
        status=$?
        failed=$((failed + 1))
        echo "FAIL  ${binary##*/} (exit status $status)"
        sed 's/^/      /' "$log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
