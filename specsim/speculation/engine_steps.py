"""Rounds priced by a known engine's own measured steps: the ``steps`` price source, RoundCost's twin.

A decode or verify step comes from the table's surface over sequences, new tokens a sequence and KV length, its own
drafting included. Drafting another number of tokens than was verified changes it by the measured draft time. A draft
model makes a pass in steps without drafts too, to have the new tokens in its KV cache (vLLM 0.32,
``v1/spec_decode/llm_base_proposer.py``): as long as that of one draft. A prompt chunk adds its own step's time less
what two steps in one save: the smallest step there is, whose weights it shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats, Reals
from specsim.cost.forward import SOURCES, Group
from specsim.cost.machine_error import interrupted_share, machine_error
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput
from specsim.profiles.schema import SHAPE_COLUMNS, HeldoutError, Row
from specsim.profiles.store import Profile
from specsim.surfaces.estimates import EXTRAPOLATED, INTERPOLATED, Z90
from specsim.surfaces.step_surface import ChunkTimes, StepSurface, non_negative_fit

COLUMNS = SHAPE_COLUMNS["steps"]
PART_NAMES = {"draft": "draft", "sample": "sampling", "host": "host"}  # column part -> name of StepTime's part
UNTESTED_CHUNK_ERROR = 0.1  # of prompt chunks where the table holds no step that mixes them with decoding; a judgement
P10_TO_P90 = 2.563  # width of that span of a normal law in standard deviations
LEAST_NOISE = 0.005
SAMPLES_A_VISIT = 3  # as specsim profile steps takes them
FEWEST_ROWS = 12  # of decode steps, to withhold half of them


class EngineSteps:
    """Prices steps of the one engine, model and drafter that a table was measured with."""

    def __init__(
        self, rows: Sequence[Row], *, machine_error: float = 0.0, stretch: float = 1.0, draft_model: bool = False
    ) -> None:
        """``rows``: class ``steps`` of one engine, model and drafter. ``stretch``: mean steps over the rows' medians.
        ``draft_model``: whether the drafter is one, with a KV cache of its own.

        Raises InvalidInput where no decode step is among them.
        """
        tables = _tables(rows)
        shapes, seconds = _whole_steps(tables)
        seconds = stretch * seconds
        decode = _is_decode(shapes)
        if not decode.any():
            raise InvalidInput("the steps table holds no decode step; measure one with specsim profile steps")
        self._surface = StepSurface(shapes[decode][:, :3], seconds[decode], noise=_noise(rows))
        self._parts: dict[str, _PartTime] = {}
        for part, name in PART_NAMES.items():
            shape, part_s = (column[_is_decode(tables[part][0])] for column in tables[part])
            each = shape[:, COLUMNS.index("num_draft_tokens" if part == "draft" else "query_len")]
            fit = _PartTime.fitted(shape[:, 0], each, stretch * part_s)
            if fit is not None:
                self._parts[name] = fit
        smallest = shapes[decode][:, :3].min(axis=0)
        self._shared_s = float(self._surface.at(*smallest.tolist()).seconds)
        alone = (shapes[:, 1] > shapes[:, 3] + 1) & (shapes[:, 0] == 1) & (shapes[:, 4] == 0)
        one_token = [[1.0, smallest[2]]]
        self._chunks = ChunkTimes(
            np.concatenate([one_token, shapes[alone][:, 1:3]]), np.concatenate([[self._shared_s], seconds[alone]])
        )
        self._machine_error, self._draft_model = machine_error, draft_model
        self._prompt_error = self._chunk_error(shapes, seconds)

    @classmethod
    def of(
        cls,
        profile: Profile,
        *,
        model: str,
        drafter: str | None = None,
        draft_model: bool = False,
    ) -> EngineSteps:
        """The table's rows of one model, without a drafter and with the named one (None: the table's only one).

        ``drafter`` may be ``none``: only the rows without one.

        Raises InvalidInput for a model or drafter the table does not hold.
        """
        held = profile.rows.get("steps", ())
        models = sorted({row.kernel.split("/")[1] for row in held if row.kernel.count("/") == 2})
        if model not in models:
            known = f"holds {', '.join(models)}" if models else "holds no steps"
            raise InvalidInput(f"profile {profile.name} {known}, not steps of {model}; measure them or choose another")
        own = [row for row in held if row.kernel.split("/")[1:2] == [model]]
        drafters = sorted({row.kernel.split("/")[2] for row in own} - {"none"})
        if drafter is None and len(drafters) > 1:
            raise InvalidInput(f"profile {profile.name} holds drafters {', '.join(drafters)}; name one of them")
        if drafter not in (None, "none", *drafters):
            known = f"drafters {', '.join(drafters)}" if drafters else "no drafter"
            raise InvalidInput(f"profile {profile.name} holds {known}, not {drafter}; choose one or measure it")
        wanted = {"none", drafter or (drafters[0] if drafters else "none")}
        rows = [row for row in own if row.kernel.split("/")[2] in wanted]
        stretch = 1.0 + interrupted_share(profile)
        return cls(rows, machine_error=machine_error(profile), stretch=stretch, draft_model=draft_model)

    def _chunk_error(self, shapes: Floats, seconds: Floats) -> float:
        """Root mean square error of mixed steps, which nothing is fitted to, as a share of what the chunk adds."""
        errors = []
        for (sequences, width, kv_len, drafts, chunk), measured in zip(shapes.tolist(), seconds.tolist(), strict=True):
            if chunk and width == drafts + 1:
                decode_s = float(self._surface.at(sequences, width, kv_len).seconds)
                chunk_s = float(self._chunks.at(chunk, chunk)[0]) - self._shared_s
                errors.append((decode_s + chunk_s - measured) / max(measured - decode_s, chunk_s))
        return float(np.sqrt(np.mean(np.square(errors)))) if errors else UNTESTED_CHUNK_ERROR

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """The step that computes ``groups`` and then drafts ``draft_tokens`` for ``drafting`` sequences.

        Counts and KV lengths may be arrays that broadcast. ``drafting_kv_tokens`` is there for RoundCost's sake.
        """
        decodes = [group for group in groups if not group.is_prefill]
        prompts = [group for group in groups if group.is_prefill]
        sequences = sum((group.sequences for group in decodes), 0)
        tokens = sum((group.tokens for group in decodes), 0)
        seconds, error_s, compute_s, rank = 0.0, 0.0, 0.0, 0.0  # type: tuple[Reals, Reals, Reals, Reals]
        if decodes:
            keys = sum((group.sequences * group.kv_tokens for group in decodes), 0.0)
            found = self._surface.at(sequences, tokens / sequences, keys / sequences)
            seconds, rank = found.seconds, found.rank
            error_s, compute_s = found.error * seconds, found.compute * seconds
        draft_s = self._draft_s(drafting, max(draft_tokens, 1) if self._draft_model else draft_tokens)
        seconds = seconds + draft_s - (self._draft_s(sequences, tokens / sequences - 1) if decodes else 0.0)
        prompt_s, chunks, outside = self._prompt_s(prompts)
        if prompts:
            prompt_s = prompt_s - self._shared_s * (chunks - (0 if decodes else 1))
            seconds, compute_s = seconds + prompt_s, compute_s + prompt_s
            error_s = np.hypot(error_s, self._prompt_error * prompt_s)
            rank = np.maximum(rank, EXTRAPOLATED if outside else INTERPOLATED)
        rows = sum((group.sequences * group.logit_rows for group in groups), 0)
        parts = self._split(seconds, draft_s, sequences + chunks, rows)
        return self._total(seconds, parts, error_s, compute_s, rank)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """A steady round of ``batch`` sequences at a KV length: verify ``draft_tokens`` drafts, draft as many."""
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)

    def _draft_s(self, sequences: Reals, draft_tokens: Reals) -> Reals:
        """Seconds of proposing; 0 where the table does not tell drafting apart."""
        fit = self._parts.get("draft")
        return 0.0 if fit is None else fit.at(sequences, draft_tokens) * (draft_tokens > 0)

    def _prompt_s(self, prompts: Sequence[Group]) -> tuple[Reals, Reals, bool]:
        """Seconds of each chunk as a step of its own, summed; how many; whether one is outside the measured range."""
        seconds, chunks, outside = 0.0, 0, False  # type: tuple[Reals, Reals, bool]
        for group in prompts:
            one_s, beyond = self._chunks.at(group.query_tokens, group.kv_tokens)
            seconds, chunks = seconds + group.sequences * one_s, chunks + group.sequences
            outside = outside or beyond
        return seconds, chunks, outside

    def _split(self, seconds: Reals, draft_s: Reals, sequences: Reals, rows: Reals) -> dict[str, Reals]:
        """Seconds by part; ``verify`` is what the measured parts leave."""
        parts: dict[str, Reals] = {"draft": draft_s} if "draft" in self._parts else {}
        for name in ("sampling", "host"):
            if name in self._parts:
                parts[name] = self._parts[name].at(sequences, rows / np.maximum(sequences, 1))
        return {"verify": np.maximum(seconds - sum(parts.values(), 0.0), 0.0), **parts}

    def _total(
        self, seconds: Reals, parts: dict[str, Reals], error_s: Reals, compute_s: Reals, rank: Reals
    ) -> StepTime:
        errors: dict[str, Reals] = {"steps": error_s}
        if self._machine_error:
            errors["machine"] = self._machine_error * seconds
        half = Z90 * np.sqrt(sum((error**2 for error in errors.values()), 0.0))
        if isinstance(seconds, np.ndarray):
            ranks = np.broadcast_to(rank, seconds.shape).astype(int)
            bounds = np.where(compute_s > seconds / 2, "compute", "memory")
            return StepTime(
                seconds,
                parts,
                np.array(SOURCES)[ranks],
                np.maximum(seconds - half, 0.0),
                seconds + half,
                errors,
                bounds,
            )
        bound = "compute" if compute_s > seconds / 2 else "memory"
        low, high = max(0.0, float(seconds - half)), float(seconds + half)
        single: dict[str, Reals] = {name: float(value) for name, value in parts.items()}
        return StepTime(float(seconds), single, SOURCES[int(rank)], low, high, errors, bound)


class _PartTime:
    """Seconds of one part: a constant, and shares a sequence, a token of each (a draft model's pass) and a token."""

    def __init__(self, coefficients: Floats) -> None:
        self._coefficients = coefficients

    @classmethod
    def fitted(cls, sequences: Floats, each: Floats, seconds: Floats) -> _PartTime | None:
        """``each``: tokens of a sequence."""
        if len(seconds) == 0:
            return None
        features = np.stack([np.ones_like(seconds), sequences, each, sequences * each], axis=1)
        return cls(non_negative_fit(features, seconds))

    def at(self, sequences: Reals, each: Reals) -> Reals:
        constant, a_sequence, a_pass, a_token = self._coefficients.tolist()
        found: Reals = constant + a_sequence * sequences + a_pass * each + a_token * sequences * each
        return found


def withheld_error(rows: Sequence[Row]) -> HeldoutError | None:
    """|predicted / measured - 1| of every second decode step (a checkerboard over the axes), from the others alone."""
    shapes, seconds = _whole_steps(_tables(rows))
    decode = _is_decode(shapes)
    shapes, seconds = shapes[decode][:, :3], seconds[decode]
    if len(seconds) < FEWEST_ROWS:
        return None
    ranks = [np.unique(column, return_inverse=True)[1] for column in shapes.T]
    hidden = np.sum(ranks, axis=0) % 2 == 1
    found = StepSurface(shapes[~hidden], seconds[~hidden], noise=_noise(rows)).at(*shapes[hidden].T)
    errors = np.abs(found.seconds / seconds[hidden] - 1.0)
    inside = errors <= Z90 * found.error * found.seconds / seconds[hidden]
    return HeldoutError(
        median=float(np.median(errors)),
        p90=float(np.percentile(errors, 90)),
        n=int(hidden.sum()),
        coverage=float(np.mean(inside)),
    )


def _noise(rows: Sequence[Row]) -> float:
    """One standard deviation of a median, as a share: the middle row's. Samples of one visit meet one state of the
    machine and count as one.
    """
    sigmas = [
        row.spread / P10_TO_P90 / max(1.0, (row.samples or 1) / SAMPLES_A_VISIT) ** 0.5
        for row in rows
        if row.operation in ("total", "verify")
    ]
    return max(LEAST_NOISE, float(np.median(sigmas)))


def _tables(rows: Sequence[Row]) -> dict[str, tuple[Floats, Floats]]:
    """Shapes [rows, 5] and seconds [rows] by part."""
    found: dict[str, tuple[Floats, Floats]] = {}
    for part in ("total", "verify", *PART_NAMES):
        chosen = [row for row in rows if row.operation == part]
        shapes = np.array([row.shape for row in chosen], dtype=np.float64).reshape(len(chosen), len(COLUMNS))
        found[part] = shapes, np.array([row.median_s for row in chosen])
    return found


def _whole_steps(tables: dict[str, tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Shapes and seconds of whole steps: ``total`` where measured, else ``verify`` and what else the table has."""
    sums: dict[tuple[float, ...], float] = {}
    for part in ("verify", *PART_NAMES):
        for shape, seconds in zip(*tables[part], strict=True):
            sums[tuple(shape)] = sums.get(tuple(shape), 0.0) + float(seconds)
    sums |= {tuple(shape): float(seconds) for shape, seconds in zip(*tables["total"], strict=True)}
    return np.array(list(sums), dtype=np.float64).reshape(len(sums), len(COLUMNS)), np.array(list(sums.values()))


def _is_decode(shapes: Floats) -> NDArray[np.bool_]:
    decode: NDArray[np.bool_] = (shapes[:, 1] == shapes[:, 3] + 1) & (shapes[:, 4] == 0)
    return decode
