#!/usr/bin/env bash
# What to measure on a CUDA machine, in parts below nine minutes each. A part that was stopped goes on where it was.
#
#   bash validation/gpu-runs/parts.sh PART FOLDER [--set path.to.field=value ...]
#
# With this project's own engine:
#   graphs    do captured passes compute what eager ones do? The tests of them, on the card too; run this first
#   kernels   the card's kernel profile                          -> FOLDER/profile
#   predict   from that profile: whole passes, and the batch x k map (commit FOLDER before the next parts)
#   passes    whole passes of model.yaml, against the prediction -> FOLDER/passes
#   map       the batch x k map of imposed-acceptance.yaml                 -> FOLDER/map.csv
#   served    its workload at 8, 32 and 128 clients, off and on  -> FOLDER/served-*.json
#   lossless  greedy output with and without the drafter, by dtype, of a small model
#   train     a larger pair of trained models, with its heads    -> FOLDER/models (tens of MB; look before committing)
#
# With a vLLM that is installed there (VLLM: its virtual environment), of vllm.yaml:
#   vllm          its steps profiled, its batch x k map predicted from them, measured and compared -> FOLDER/vllm
#   vllm-served   its server at 8, 32 and 64 clients, off and on in turn    -> FOLDER/vllm-served-*
#   vllm-kernels  the same map predicted from the kernel profile alone      -> FOLDER/vllm-predicted-by-kernels.json
#
# Passes are captured as CUDA graphs at the scenario's graph_sizes, which on a GPU are vLLM's default sizes:
# --set engine.graph_sizes=[] runs eagerly. Exit status 124: the time of a part was up, run it again.
# GPU (hardware preset, default h200), DEVICE (default cuda), MINUTES of a part (default 8), SPECSIM (default specsim),
# PYTHON (default python3) and PAIR (of train: large or small, default large) may be set; STEPS of train are those of
# train.py unless set. SCENARIO, MODEL and DRAFT stand in for vllm.yaml and the folders of its models; MODEL empty: the
# scenario's weights are theirs. On a CPU vLLM imposes no acceptance, so that a scenario with trained weights is needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
part=$1 folder=$2
shift 2
gpu=${GPU:-h200} device=${DEVICE:-cuda} specsim=${SPECSIM:-specsim} python=${PYTHON:-python3} minutes=${MINUTES:-8}
limited=(timeout --foreground --signal=INT --kill-after=30 "$minutes"m)  # or it would run on when stopped from outside
scenario=${SCENARIO:-$here/vllm.yaml}
models=(--model "${MODEL-$here/llama-3.1-8b}" --draft-model "${DRAFT-$here/llama-3.2-1b}")
[ -n "${MODEL-set}" ] || models=()
on_gpu=(--set "gpu=$gpu")
[ "$device" = cuda ] || on_gpu=()
mkdir -p "$folder/passes"
[ -e "$folder/passes/model.yaml" ] || cp "$here/model.yaml" "$folder/passes/"
own=$here/imposed-acceptance.yaml
case $part in
  graphs)
    "${limited[@]}" "$python" -m pytest "$here/../../tests/reference/test_graphs.py" -q ;;
  kernels)
    card=(--gpu "$gpu")
    [ "$device" = cuda ] || card=()
    $specsim profile run --device "$device" "${card[@]}" --minutes "$minutes" --out "$folder/profile" ;;
  predict)
    $specsim profile compose "$folder/passes" --profile "$folder/profile"
    $specsim predict "$own" --set "gpu=$folder/profile" "$@" --json > "$folder/predicted.json" ;;
  passes)
    "${limited[@]}" $specsim profile compose "$folder/passes" --measure --device "$device" --repeats 2 ;;
  map)
    "${limited[@]}" $specsim measure "$own" "${on_gpu[@]}" "$@" --grid --device "$device" --repeats 2 \
      --cell-seconds 0.8 --out "$folder/map.csv" ;;
  served)
    end=$((SECONDS + 60 * minutes))
    for clients in 8 32 128; do
      for k in 0 4; do
        out=$folder/served-$clients-$k.json
        [ -s "$out" ] && continue
        left=$((end - SECONDS))
        [ "$left" -gt 0 ] || exit 124
        timeout --foreground "$left" $specsim measure "$own" "${on_gpu[@]}" "$@" --device "$device" --json \
          --set "workload.arrivals.concurrency=$clients" --set "workload.requests=$((4 * clients))" \
          --set "engine.max_num_seqs=$clients" --set "speculation.policy={kind: fixed, k: $k}" > "$out.part"
        mv "$out.part" "$out"
      done
    done ;;
  lossless)
    "${limited[@]}" $specsim measure cpu-144m --lossless --device "$device" ;;
  train)
    # It stops by itself between two steps; what a step and storing the weights take comes on top.
    "$python" "$here/../models/train.py" --pair "${PAIR:-large}" --device "$device" --minutes "$((minutes - 1))" \
      ${STEPS:+--steps $STEPS} --scratch "$folder/training" --out "$folder/models" ;;
  vllm)
    # A third of the time for the profile's share of a part; what is left over measures. Run it until it says all.
    "${limited[@]}" $specsim validate "$scenario" "${on_gpu[@]}" "$@" --engine vllm --vllm "$VLLM" "${models[@]}" \
      --out "$folder/vllm" --minutes "$(awk "BEGIN {print $minutes / 3}")" ;;
  vllm-served)
    end=$((SECONDS + 60 * minutes))
    for clients in 8 32 64; do
      left=$((end - SECONDS))
      [ "$left" -gt 0 ] || exit 124
      timeout --foreground --signal=INT --kill-after=60 "$left" $specsim measure "$scenario" "${on_gpu[@]}" "$@" \
        --engine vllm --vllm "$VLLM" "${models[@]}" --set "workload.arrivals={kind: closed_loop, concurrency: $clients}" \
        --set "workload.requests=$((3 * clients))" --blocks 3 --out "$folder/vllm-served-$clients"
    done ;;
  vllm-kernels)
    $specsim predict "$scenario" --set "gpu=$folder/profile" "$@" --decode-only --json \
      > "$folder/vllm-predicted-by-kernels.json" ;;
  *)
    echo "unknown part $part; see the head of $0" >&2
    exit 2 ;;
esac
