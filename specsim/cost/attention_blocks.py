"""Attention of several query tokens where a library computes whole blocks of queries and never splits the keys.

FlashAttention 2 over a paged cache, which vLLM runs on cards before Hopper, packs the query heads that share a KV head
and splits the keys among processors for one query token only (csrc/flash_attn/flash_api.cpp, ``mha_varlen_fwd``: both
are bound to max_seqlen_q == 1). From two tokens on, one thread block takes 64 query rows of one head of one sequence,
rows that are not there included, and goes through all keys, 128 at a time (``run_mha_fwd_splitkv_dispatch``, head size
128). So verifying 6 tokens costs what 64 would, and a short batch leaves processors idle while few go on.
FlashAttention 3 (Hopper) and TensorRT-LLM's kernels (Blackwell) pack heads at any width and need no such law.
"""

from __future__ import annotations

import numpy as np

from specsim.arrays import Reals

# The kernel names under which public tables hold it: vLLM 0.14 on A100, vLLM 0.24 on L40S and RTX cards.
IN_WHOLE_BLOCKS = ("vllm_flash_attn", "vllm_flash_attn_fa2")
QUERY_ROWS, KEYS = 64.0, 128.0
PROMPT_OF_BLOCKS = 4096.0  # tokens of the measured prompt that tells what a block takes


def blocks_s(shape: tuple[Reals, ...], keys: Reals, processors: int, prompt_s: Reals) -> Reals:
    """Seconds of the blocks of attention of this shape over ``keys`` keys, its launch not included.

    ``prompt_s``: what a prompt of PROMPT_OF_BLOCKS tokens of the same heads takes. Its n/64 query blocks a head go
    through n/2 keys on average: a block takes prompt_s·processors / (heads · n/64 · n/2/128). Worked: 899.6 us for 32
    heads on 108 processors (A100) are 2.97 us a block; 32 sequences of 6 tokens over 850 keys are 1,024 columns of
    6.64 blocks, 9.5 a processor, 187 us.
    """
    sequences, queries, heads = shape[0], shape[1], shape[3]
    blocks_of_prompt = heads * PROMPT_OF_BLOCKS / QUERY_ROWS * PROMPT_OF_BLOCKS / 2.0 / KEYS
    block_s = prompt_s * processors / blocks_of_prompt
    columns = sequences * heads * np.ceil(queries / QUERY_ROWS)
    seconds: Reals = np.maximum(1.0, columns / processors) * keys / KEYS * block_s
    return seconds
