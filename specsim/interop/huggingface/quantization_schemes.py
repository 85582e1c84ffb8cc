"""How many bits a quantized weight takes, scales and zero points counted, and in which format it is multiplied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from specsim.errors import InvalidInput
from specsim.interop.huggingface.keys import Keys
from specsim.specs.formats import format_of

WIDE = 16.0  # bits of a weight that is not quantized
_ALGORITHMS = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "fp8_pb_wo": "fp8-block", "int8_sq": "int8",
    "experts_int8": "int8-weight", "nvfp4": "nvfp4", "nvfp4_awq": "nvfp4", "w4a16_nvfp4": "nvfp4-weight",
    "mxfp4": "mxfp4", "mxfp8": "mxfp8", "w4a16_awq": "int4-weight-g128", "w4a8_awq": "int4-fp8",
    "w8a16": "int8-weight",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scheme:
    """``bits`` a weight, and for each ``group`` of weights a scale of ``scale_bits``; group 0: none that counts.

    ``format``: as specs/formats names it; None: whatever runs so many bits.
    """

    bits: float
    group: int = 0
    scale_bits: float = 0.0
    format: str | None = None

    @classmethod
    def of(cls, name: str, group: int | None = None, scale_bits: float | None = None) -> Scheme:
        """A format with its own group and scale, or others."""
        found = format_of(name)
        shared = found.group or 0 if group is None else group
        return cls(found.bits, shared, found.scale_bits if scale_bits is None else scale_bits, name)

    @property
    def stored_bits(self) -> float:
        return self.bits + (self.scale_bits / self.group if self.group else 0.0)

    @property
    def stored(self) -> dict[str, Any]:
        """As a layer's formats have it."""
        return {"format": self.format, "bits": self.stored_bits}


def compressed_scheme(weights: Keys, inputs: Keys) -> Scheme:
    """compressed-tensors: scales have 8 bits where they are powers of two or of FP4 groups of 16, else 16."""
    bits, group = weights.find("num_bits"), weights.count("group_size") if weights.find("group_size") != -1 else 0
    if not isinstance(bits, int | float) or not 0 < bits <= 64:
        raise weights.wrong("num_bits", bits, "it should be a number of bits")
    floats, narrow_inputs = weights.text("type") == "float", inputs.find("num_bits")
    block = weights.find("block_structure")
    if isinstance(block, list) and len(block) == 2:
        name = "fp8-block" if bits == 8 and floats else None
        return Scheme(float(bits), int(block[0]) * int(block[1]), 32.0, name)
    narrow = "uint8" in weights.text("scale_dtype") or (floats and group in (16, 32))
    zero = 0.0 if weights.flag("symmetric", default=True) else float(bits)
    name = _compressed(bits, floats, group, narrow_inputs, inputs.text("type") == "float")
    return Scheme(float(bits), group, (8.0 if narrow else 16.0) + zero if group else 0.0, name)


def _compressed(bits: float, floats: bool, group: int, inputs: object, float_inputs: bool) -> str | None:
    """The format of weights of so many bits, integers or floats, by ``inputs`` of so many (None: 16)."""
    if bits == 8:
        return ("fp8" if inputs == 8 else "fp8-weight") if floats else "int8" if inputs == 8 else "int8-weight"
    if bits != 4:
        return None
    if not floats:
        return "int4-fp8" if inputs == 8 and float_inputs else _int4(group)
    if group == 16:
        return "nvfp4" if inputs == 4 else "nvfp4-weight"
    return "mxfp4-mxfp8" if inputs == 8 else "mxfp4"


def _int4(group: int) -> str:
    return "int4-weight-g32" if 0 < group <= 32 else "int4-weight-g128"


def single_scheme(block: Keys) -> Scheme:
    """One scheme for all."""
    if block.flag("load_in_4bit") or block.flag("load_in_8bit"):
        doubled = block.flag("bnb_4bit_use_double_quant")
        # NF4 blocks of 64 share a float32 scale, itself in 8 bits with one float32 for 256 where quantized twice
        narrow = Scheme.of("int4-weight-g128", 64, 8.125 if doubled else 32.0)
        return narrow if block.flag("load_in_4bit") else Scheme.of("int8-weight")
    bits = block.find("bits", "w_bit")
    if bits is not None:
        if isinstance(bits, bool) or not isinstance(bits, int | float) or not 0 < bits <= 64:
            raise block.wrong("bits", bits, "it should be a number of bits")
        named = block.has("quant_method", "w_bit", "sym", "desc_act", "zero_point")
        return _grouped(block, float(bits)) if named else _mlx(block, float(bits))
    return named_scheme(block)


def _grouped(block: Keys, bits: float) -> Scheme:
    """GPTQ and AWQ: a 16-bit scale for each group, and a zero point as wide as a weight unless it is symmetric."""
    told = block.find("group_size", "q_group_size")
    group = 0 if told in (-1, None) else block.count("group_size", "q_group_size")
    awq = block.text("quant_method").lower() == "awq"
    zero = block.flag("zero_point", default=True) if awq else True  # GPTQ stores zero points even where they are alike
    name = {4.0: _int4(group), 8.0: "int8-weight"}.get(bits)
    return Scheme(bits, group, 16.0 + (bits if zero else 0.0) if group else 0.0, name)


def _mlx(block: Keys, bits: float) -> Scheme:
    """MLX names no method: each group has a scale and a bias of 16 bits, or as ``mode`` says."""
    mode, group = block.text("mode", default="affine").lower(), block.count("group_size", default=64)
    if mode in _ALGORITHMS:
        return Scheme.of(_ALGORITHMS[mode])
    name = {4.0: _int4(group), 8.0: "int8-weight"}.get(bits)
    return Scheme(bits, group, 32.0 if group else 0.0, name)


def named_scheme(block: Keys) -> Scheme:
    name = block.text("quant_algo", "quant_method").lower()
    if name in ("", "compressed-tensors"):
        return Scheme(WIDE)
    if name not in _ALGORITHMS:
        raise InvalidInput(
            f"{block.where}: quantization {block.text('quant_algo', 'quant_method')[:60]!r} is not covered; "
            "write the model as YAML with its weight_bits"
        )
    scheme, shape = Scheme.of(_ALGORITHMS[name]), block.items("weight_block_size")
    if name == "fp8" and len(shape) == 2 and all(isinstance(one, int) and one > 0 for one in shape):
        return Scheme.of("fp8-block", shape[0] * shape[1])
    if scheme.group and (group := block.optional("group_size")):
        return replace(scheme, group=group)
    return scheme
