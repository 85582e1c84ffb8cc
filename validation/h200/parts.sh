#!/usr/bin/env bash
# What to measure on an H200, in parts below nine minutes each. A part that was stopped goes on where it was.
#
#   bash validation/h200/parts.sh PART FOLDER [--set path.to.field=value ...]
#
#   graphs    do captured passes compute what eager ones do? The tests of them, on the card too; run this first
#   kernels   the card's kernel profile                          -> FOLDER/profile
#   predict   from that profile: whole passes, and the batch x k map (commit FOLDER before the next parts)
#   passes    whole passes of model.yaml, against the prediction -> FOLDER/passes
#   map       the batch x k map of imposed-acceptance.yaml                 -> FOLDER/map.csv
#   served    its workload at 8, 32 and 128 clients, off and on  -> FOLDER/served-*.json
#   lossless  greedy output with and without the drafter, by dtype, of a small model
#   train     a larger pair of trained models, with its heads    -> FOLDER/models (tens of MB; look before committing)
#
# Passes are captured as CUDA graphs at the scenario's graph_sizes, which on a GPU are vLLM's default sizes:
# --set engine.graph_sizes=[] runs eagerly. Exit status 124: the time of a part was up, run it again.
# DEVICE (default cuda), MINUTES of a part (default 8), SPECSIM (default specsim), PYTHON (default python3) and
# PAIR (of train: large or small, default large) may be set; STEPS of train are those of train.py unless set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
part=$1 folder=$2
shift 2
device=${DEVICE:-cuda} specsim=${SPECSIM:-specsim} python=${PYTHON:-python3} minutes=${MINUTES:-8}
limited=(timeout --foreground "$minutes"m)  # or a part that is stopped from outside would leave it running
mkdir -p "$folder/passes"
[ -e "$folder/passes/model.yaml" ] || cp "$here/model.yaml" "$folder/passes/"
case $part in
  graphs)
    "${limited[@]}" "$python" -m pytest "$here/../../tests/reference/test_graphs.py" -q ;;
  kernels)
    gpu=(--gpu h200)
    [ "$device" = cuda ] || gpu=()
    $specsim profile run --device "$device" "${gpu[@]}" --minutes "$minutes" --out "$folder/profile" ;;
  predict)
    $specsim profile compose "$folder/passes" --profile "$folder/profile"
    $specsim predict "$here/imposed-acceptance.yaml" --set "gpu=$folder/profile" "$@" --json > "$folder/predicted.json" ;;
  passes)
    "${limited[@]}" $specsim profile compose "$folder/passes" --measure --device "$device" --repeats 2 ;;
  map)
    "${limited[@]}" $specsim measure "$here/imposed-acceptance.yaml" "$@" --grid --device "$device" --repeats 2 --cell-seconds 0.8 --out "$folder/map.csv" ;;
  served)
    end=$((SECONDS + 60 * minutes))
    for clients in 8 32 128; do
      for k in 0 4; do
        out=$folder/served-$clients-$k.json
        [ -s "$out" ] && continue
        left=$((end - SECONDS))
        [ "$left" -gt 0 ] || exit 124
        timeout --foreground "$left" $specsim measure "$here/imposed-acceptance.yaml" "$@" --device "$device" --json \
          --set "workload.arrivals.concurrency=$clients" --set "workload.requests=$((4 * clients))" \
          --set "engine.max_num_seqs=$clients" --set "speculation.policy={kind: fixed, k: $k}" > "$out.part"
        mv "$out.part" "$out"
      done
    done ;;
  lossless)
    "${limited[@]}" $specsim measure quickstart --lossless --device "$device" ;;
  train)
    # It stops by itself between two steps; what a step and storing the weights take comes on top.
    "$python" "$here/../models/train.py" --pair "${PAIR:-large}" --device "$device" --minutes "$((minutes - 1))" \
      ${STEPS:+--steps $STEPS} --scratch "$folder/training" --out "$folder/models" ;;
  *)
    echo "unknown part $part; see the head of $0" >&2
    exit 2 ;;
esac
