#!/usr/bin/env bash
# Many processes on one host, such as one for each GPU:
#
#   launch/local.sh 8 coca/base --run-dir runs/base data.sources.0.url='data/train-*.tar'
#
# Everything after the number goes to `kmm train`. If a process fails, all end and all are started
# again, from the newest whole checkpoint, at most RESTARTS times (3). A mistake of yours (exit code 2)
# is not tried again.
set -euo pipefail
if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh PROCESSES CONFIG [arguments of kmm train]" >&2
  exit 2
fi
processes=$1
shift
restarts=${RESTARTS:-3}
pause=${RESTART_SECONDS:-10}
kmm=${KMM:-kmm}
free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'

children=()
stopped=
trap 'stopped=yes; kill -TERM "${children[@]}" 2>/dev/null || true' TERM INT

start_children() {
  local port=${KMM_PORT:-$(python3 -c "$free_port")} i
  children=()
  for ((i = 0; i < processes; i++)); do
    KMM_COORDINATOR="127.0.0.1:$port" KMM_PROCESSES=$processes KMM_PROCESS=$i KMM_LOCAL_PROCESS=$i \
      "$kmm" train "$@" &
    children+=($!)
  done
}

# Waits until all have ended or one has failed; sets code. A signal only interrupts the waiting.
await_children() {
  local left=${#children[@]} status
  code=0
  while ((left > 0)); do
    status=0
    wait -n || status=$?
    if [[ $status == 127 ]]; then return; fi # none is left
    if [[ -n $stopped && $status -gt 128 ]]; then continue; fi
    left=$((left - 1))
    if [[ $status != 0 && -z $stopped ]]; then
      code=$status
      return
    fi
  done
}

end_children() { # SIGTERM saves; what does not end then is ended
  kill -TERM "${children[@]}" 2>/dev/null || true
  local second
  for ((second = 0; second < ${GRACE_SECONDS:-60}; second++)); do
    kill -0 "${children[@]}" 2>/dev/null || break
    sleep 1
  done
  kill -KILL "${children[@]}" 2>/dev/null || true
  wait || true
}

for ((attempt = 0; ; attempt++)); do
  start_children "$@"
  await_children
  if [[ $code == 0 ]]; then exit 0; fi
  end_children
  if [[ $code == 2 ]]; then exit 2; fi
  if ((attempt >= restarts)); then
    echo "launch/local.sh: failed with code $code after $restarts restarts" >&2
    exit "$code"
  fi
  echo "launch/local.sh: a process failed with code $code; restart $((attempt + 1)) of $restarts" >&2
  sleep "$pause"
done
