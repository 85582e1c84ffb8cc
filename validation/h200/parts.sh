#!/usr/bin/env bash
# What to measure on an H200, in parts below nine minutes each. A part that was stopped goes on where it was.
#
#   bash validation/h200/parts.sh PART FOLDER [--set path.to.field=value ...]
#
#   kernels   the card's kernel profile                          -> FOLDER/profile
#   predict   from that profile: whole passes, and the batch x k map (commit FOLDER before the next parts)
#   passes    whole passes of model.yaml, against the prediction -> FOLDER/passes
#   map       the batch x k map of imposed-acceptance.yaml                 -> FOLDER/map.csv
#   served    its workload at 8, 32 and 128 clients, off and on  -> FOLDER/served-*.json
#   lossless  greedy output with and without the drafter, by dtype, of a small model
#
# DEVICE (default cuda), MINUTES (default 8) and SPECSIM (default specsim) may be set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
part=$1 folder=$2
shift 2
device=${DEVICE:-cuda} specsim=${SPECSIM:-specsim}
mkdir -p "$folder/passes"
[ -e "$folder/passes/model.yaml" ] || cp "$here/model.yaml" "$folder/passes/"
case $part in
  kernels)
    gpu=(--gpu h200)
    [ "$device" = cuda ] || gpu=()
    $specsim profile run --device "$device" "${gpu[@]}" --minutes "${MINUTES:-8}" --out "$folder/profile" ;;
  predict)
    $specsim profile compose "$folder/passes" --profile "$folder/profile"
    $specsim predict "$here/imposed-acceptance.yaml" --set "gpu=$folder/profile" "$@" --json > "$folder/predicted.json" ;;
  passes)
    $specsim profile compose "$folder/passes" --measure --device "$device" --repeats 2 ;;
  map)
    $specsim measure "$here/imposed-acceptance.yaml" "$@" --grid --device "$device" --repeats 2 --cell-seconds 0.8 --out "$folder/map.csv" ;;
  served)
    for clients in 8 32 128; do
      for k in 0 4; do
        out=$folder/served-$clients-$k.json
        [ -s "$out" ] && continue
        $specsim measure "$here/imposed-acceptance.yaml" "$@" --device "$device" --json \
          --set "workload.arrivals.concurrency=$clients" --set "workload.requests=$((4 * clients))" \
          --set "speculation.policy={kind: fixed, k: $k}" > "$out.part"
        mv "$out.part" "$out"
      done
    done ;;
  lossless)
    $specsim measure quickstart --lossless --device "$device" ;;
  *)
    echo "unknown part $part; see the head of $0" >&2
    exit 2 ;;
esac
