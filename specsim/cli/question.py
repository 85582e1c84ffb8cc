"""How every verb is asked: by a scenario, short options and settings, each over the one before."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specsim.cli.groups import OptionGroup, options_of, spread, with_parameters
from specsim.cli.options import SetOption
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.scenario import Asked, ShortOptions


@dataclass(frozen=True, slots=True)
class Question:
    """What was given on the command line; ``ask`` makes it a scenario."""

    reference: str | None
    short: dict[str, Any]
    settings: tuple[str, ...]

    def ask(self, changes: Sequence[str] = (), *, start: Mapping[str, Any] | None = None) -> Asked:
        """The scenario, with ``changes`` applied last, and what was assumed.

        ``start``: some fields that take the place of a file. Raises InvalidInput.
        """
        from specsim.scenario import ask

        if start and self.reference is not None:
            raise InvalidInput(f"scenario {self.reference!r} and --from are both given; keep one")
        return ask(self.reference, self.options(), self.settings, changes, start=start)

    def options(self) -> ShortOptions:
        """The short options."""
        from specsim.scenario import ShortOptions

        return ShortOptions(**self.short)


@dataclass(frozen=True, slots=True)
class _ShortOptions(OptionGroup):
    """The short options as typer reads them; their names are those of ShortOptions."""

    model: Annotated[str | None, typer.Option(help="Model: a bundled or hub name, or a config.json.")] = None
    gpu: Annotated[str | None, typer.Option(help="GPU, with how many if wished: h100, '4x h100'.")] = None
    tensor_parallel: Annotated[
        int | None, typer.Option("--tp", "--tensor-parallel-size", min=1, help="GPUs that share each layer.")
    ] = None
    drafter: Annotated[
        str | None, typer.Option(help="Technique (eagle-3, ngram), draft model (qwen3-0.6b) or head's folder; off.")
    ] = None
    draft_tokens: Annotated[
        int | None, typer.Option("--draft-tokens", "--num-speculative-tokens", min=1, help="Drafts a round at most.")
    ] = None
    rate_per_s: Annotated[
        float | None, typer.Option("--rate", "--request-rate", help="Requests a second, Poisson.")
    ] = None
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "--max-concurrency", min=1, help="Clients, instead of a rate.")
    ] = None
    prompt_tokens: Annotated[
        int | None, typer.Option("--prompt", "--input-len", min=1, help="Prompt tokens of a request.")
    ] = None
    output_tokens: Annotated[
        int | None, typer.Option("--output", "--output-len", min=1, help="Output tokens of a request.")
    ] = None
    ttft_p95: Annotated[str | None, typer.Option(help="Limit of TTFT's 95th percentile: seconds, or 800ms.")] = None
    tpot_p95: Annotated[str | None, typer.Option(help="Limit of TPOT's 95th percentile: seconds, or 40ms.")] = None
    e2e_p95: Annotated[str | None, typer.Option(help="Limit of E2E's 95th percentile, in seconds.")] = None
    engine: Annotated[str | None, typer.Option(help="vllm, sglang or tensorrt-llm, with a version if wished.")] = None


ScenarioOrNone = Annotated[
    str | None,
    typer.Argument(help="A scenario's YAML path, or the name of a bundled one; the options below override it."),
]


def takes_question(command: Callable[..., None]) -> Callable[..., None]:
    """A verb whose first parameter is a Question, as typer reads it: scenario, ``--set`` and the short options.

    An option of the verb's own takes the place of the short option of its name.
    """
    verb = spread(command)
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
    short = [one for one in options_of(_ShortOptions) if one.name not in {other.name for other in own}]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    scenario_ = inspect.Parameter("scenario", kind, default=None, annotation=ScenarioOrNone)
    settings_ = inspect.Parameter("settings", kind, default=None, annotation=SetOption)

    def asking(scenario: str | None = None, settings: list[str] | None = None, **given: Any) -> None:
        options = {one.name: given.pop(one.name) for one in short}
        verb(Question(scenario, options, tuple(settings or ())), **given)

    return with_parameters(asking, [scenario_, *short, settings_, *own], command)
