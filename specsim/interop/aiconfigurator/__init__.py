"""Kernel profiles from the public tables of NVIDIA's AIConfigurator (package aiconfigurator-core, Apache-2.0).

The package holds measured kernel latencies in milliseconds as parquet files, <system>/<op>/<backend>/<version>/.
Read here: GEMM, attention of prompts and of decoding, MLA attention, the indexer of sparse attention at 1 to 64 query
tokens (the scores of DeepSeek-V4's, the choice of GLM-5's), routed MoE layers, all-reduce and all-gather. It has no
dense attention of 2 or more query tokens over a cache, no drafting and no sampling times, and none are made up. Its
modules of sparse attention at 4 to 64 query tokens are not read: DeepSeek-V3.2's, GLM-5's and MiniMax-M3's hold the
host's launches (0.7 to 1.5 ms whatever the shape, where one decoding token takes 0.05 to 0.1), and all of them run the
kernels of prompts, with which engines verify no drafts. How
the rows were timed is in its collectors (github.com/ai-dynamo/aiconfigurator, collector/): 16-bit and FP8 GEMMs rotate
over six weight matrices in a CUDA graph, so matrices below a sixth of the L2 cache are served by it; attention replays
one cache; the size of a collective counts elements of 2 bytes. An FP8 GEMM was timed with the kernel before it that
quantises its input. Engines quantise in the norm or the activation (vLLM's fuse_norm_quant and fuse_act_quant, on for
FP8), so what the tables say that kernel takes alone is left out.

    tables     which files of a system are read, whose where a backend's own are of no use, and what is left out
    rows       one record of a table as a profile's row
    narrow     rows of narrow formats: what was timed beside a product, and what no engine runs
    profile    the profile made of them: rows to keep, its header, its check against the tables
"""
