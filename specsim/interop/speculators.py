"""A draft head in the ``speculators`` format, read from its config.json.

Answers which algorithm it was trained for, how large it is, how many tokens it proposes and which model verifies
them. Fields follow vllm-project/speculators (``config.py`` 03a7c14, ``proposals/greedy.py`` 3cddab6,
``models/*/config.py``); what an engine makes of them follows vllm 0.32.0
(``transformers_utils/configs/speculators``), which takes the first proposal method, whatever
``default_proposal_method`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PositiveInt

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig
from specsim.json_file import read_json_object
from specsim.specs.yaml_file import build

_METHODS = {
    "eagle": "eagle",
    "eagle3": "eagle3",
    "peagle": "p_eagle",
    "dflash": "dflash",
    "dflash2": "dflash",
    "dspark": "dspark",
    "mtp": "mtp",
    "mlp": "mlp_speculator",
}
_LOADED_BY_VLLM = {"eagle3", "peagle", "dflash", "dflash2", "dspark"}


class _SpeculatorsPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class ProposalMethod(_SpeculatorsPart):
    """One way to propose.

    ``verifier_accept_k`` above 1 accepts a draft among the target's k likeliest: not lossless.
    """

    proposal_type: str = "greedy"
    speculative_tokens: PositiveInt
    verifier_accept_k: PositiveInt = 1
    accept_tolerance: float = Field(0.0, ge=0)


class Verifier(_SpeculatorsPart):
    name_or_path: str | None = None
    architectures: tuple[str, ...] = ()


class DraftLayers(_SpeculatorsPart):
    """The head's own transformer layers; ``vocab_size`` is the target's."""

    model_type: str | None = None
    num_hidden_layers: PositiveInt | None = None
    hidden_size: PositiveInt | None = None
    intermediate_size: PositiveInt | None = None
    num_attention_heads: PositiveInt | None = None
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    vocab_size: PositiveInt | None = None


class _Speculators(_SpeculatorsPart):
    algorithm: str | None = None
    default_proposal_method: str | None = None
    proposal_methods: tuple[ProposalMethod, ...] = Field(min_length=1)
    verifier: Verifier = Verifier()


class Speculator(_SpeculatorsPart):
    """A draft head. ``draft_vocab_size``: rows of its output matrix, None: the target's vocabulary. ``aux_layers``:
    target layers whose hidden states it reads. ``block_size``: positions of one parallel pass.
    """

    model_type: str = Field(validation_alias="speculators_model_type")
    version: str | None = Field(None, validation_alias="speculators_version")
    speculators: _Speculators = Field(validation_alias="speculators_config")
    layers: DraftLayers = Field(validation_alias="transformer_layer_config")
    draft_vocab_size: PositiveInt | None = None
    target_hidden_size: PositiveInt | None = None
    aux_layers: tuple[int, ...] | None = Field(
        None, validation_alias=AliasChoices("eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids")
    )
    block_size: PositiveInt | None = None

    @property
    def algorithm(self) -> str:
        return self.speculators.algorithm or self.model_type

    @property
    def verifier(self) -> Verifier:
        return self.speculators.verifier

    @property
    def proposals(self) -> tuple[ProposalMethod, ...]:
        """The first is the one that vLLM runs."""
        return self.speculators.proposal_methods

    @property
    def speculative_tokens(self) -> int:
        """Tokens of a round, by the proposal that vLLM runs."""
        return self.proposals[0].speculative_tokens


def read_speculator(source: Mapping[str, Any] | Path | str) -> Speculator:
    """A draft head's config.json: a path to it, to its folder, or its content.

    Raises InvalidInput for a file that is missing or malformed, or is no ``speculators`` config.
    """
    if isinstance(source, Mapping):
        content, where = dict(source), "config.json"
    else:
        path = Path(source)
        file = path / "config.json" if path.is_dir() else path
        content, where = read_json_object(file, "a draft head's config.json"), str(file)
    if "speculators_model_type" not in content:
        raise InvalidInput(f"{where} has no speculators_model_type; give a draft head in the speculators format")
    return build(Speculator, {key: value for key, value in content.items() if value is not None}, where)


def engine_config(speculator: Speculator, draft_model: str) -> EngineConfig:
    """How an engine runs the head; ``draft_model`` is the folder or id to load.

    Raises NoAnswer for an unknown algorithm.
    """
    kind = speculator.model_type
    if kind not in _METHODS:
        raise NoAnswer(f"speculators_model_type {kind!r} is none of {', '.join(_METHODS)}; name the method yourself")
    first, notes = speculator.proposals[0], list[str]()
    default = speculator.speculators.default_proposal_method
    if default not in (None, first.proposal_type):
        notes.append(f"default_proposal_method is {default}, and vLLM runs the first method, {first.proposal_type}")
    if first.verifier_accept_k > 1:
        notes.append(
            f"verifier_accept_k {first.verifier_accept_k} would accept unlikely drafts; vLLM does not read it"
        )
    if kind not in _LOADED_BY_VLLM:
        notes.append(f"vLLM 0.32 loads no {kind} head in this format")
    fields = {"method": _METHODS[kind], "draft_model": draft_model, "num_speculative_tokens": first.speculative_tokens}
    return build(EngineConfig, fields | {"notes": notes}, where="the draft head")
