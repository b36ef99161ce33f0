#!/usr/bin/env bash
# A TPU pod slice: the same command on every host of it.
#
#   TPU_NAME=my-v5p-256 ZONE=us-east5-a launch/tpu_pod.sh coca/2b --run-dir gs://bucket/runs/2b \
#       data.sources.0.url='gs://bucket/train-*.tar' mesh.fsdp=16
#
# Needs gcloud and an installed kmm in FOLDER (~/kmm_jax) of every host. Which host is which comes
# from the TPU's own environment. If it fails, it is started again on all hosts at most RESTARTS times
# (3) and goes on from the newest whole checkpoint.
set -uo pipefail
: "${TPU_NAME:?set TPU_NAME to the name of the TPU}" "${ZONE:?set ZONE to its zone}"
if [[ $# -lt 1 ]]; then
  echo "usage: TPU_NAME=... ZONE=... launch/tpu_pod.sh CONFIG [arguments of kmm train]" >&2
  exit 2
fi
restarts=${RESTARTS:-3}
printf -v quoted ' %q' "$@"
folder=${FOLDER:-'~/kmm_jax'}

for ((attempt = 0; ; attempt++)); do
  code=0
  ${GCLOUD:-gcloud} compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
    --command="cd $folder && .venv/bin/kmm train$quoted" || code=$?
  [[ $code != 0 && $code != 2 ]] || exit "$code"
  if ((attempt >= restarts)); then
    echo "launch/tpu_pod.sh: failed with code $code after $restarts restarts" >&2
    exit "$code"
  fi
  echo "launch/tpu_pod.sh: failed with code $code; restart $((attempt + 1)) of $restarts" >&2
  # A process that hangs on another host would keep its chips.
  ${GCLOUD:-gcloud} compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
    --command="pkill -TERM -f 'kmm train' || true"
  sleep "${RESTART_SECONDS:-30}"
done
