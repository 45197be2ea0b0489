# Functions of the installation tests, which run in a minimal root: bash is its only HTTP client.

: "${scratch:=/tmp}"

fail() {
    echo "$1" >&2
    exit 1
}

# The response of the sidecar to a GET of the path.
get() {
    bash -c "exec 3<>/dev/tcp/127.0.0.1/9917; printf 'GET $1 HTTP/1.0\r\n\r\n' >&3; cat <&3"
}

# Waits until the health check (the arguments after the first three) succeeds and the metrics page has a line that matches the third
# one. The first two are the process of the sidecar and its log.
wait_for_metric() {
    sidecar=$1
    log=$2
    line=$3
    shift 3
    tries=0
    until "$@" >"$scratch/health" 2>&1 && get /metrics >"$scratch/page" && grep -q "$line" "$scratch/page"; do
        tries=$((tries + 1))
        if ! kill -0 "$sidecar" || [ $tries -ge 600 ]; then
            cat "$log" "$scratch/health" "$scratch/page"
            fail "the metrics page has no $line"
        fi
        sleep 0.1
    done
}

# Ends the sidecar, which must stop in order.
stop() {
    kill "$1"
    wait "$1" || fail "the sidecar did not stop: $(cat "$2")"
}
