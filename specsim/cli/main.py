"""The ``specsim`` command: verbs in the order of the data flow.

Exit status 0: done. 2: the input breaks a rule. 3: the question is valid and has no answer. Errors are one line.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from specsim.cli import (
    calibrate,
    compare,
    dashboard,
    fit,
    import_files,
    init,
    measure,
    plan,
    predict,
    profile,
    quickstart,
    report,
    schema,
    simulate,
    sweep,
    systems,
    tune,
    validate,
)
from specsim.cli.verb import Verb
from specsim.errors import SpecsimError
from specsim.version import __version__

INTERRUPTED = 130
LONGEST_WORD = 300  # of what was given, repeated in an error
BETWEEN_COLLECTIONS = 50_000  # new objects; with the few of Python's own setting, searching takes a tenth of an answer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Predict what speculative decoding does to LLM serving, and prove it against real runs.",
)
app.command("quickstart", cls=Verb)(quickstart.quickstart)
app.command("init", cls=Verb)(init.init)
app.command("schema", cls=Verb)(schema.schema)
app.add_typer(profile.app, name="profile")
app.command("predict", cls=Verb)(predict.predict)
app.command("simulate", cls=Verb)(simulate.simulate)
app.command("compare", cls=Verb)(compare.compare)
app.command("measure", cls=Verb)(measure.measure)
app.command("validate", cls=Verb)(validate.validate)
app.command("fit", cls=Verb)(fit.fit)
app.command("calibrate", cls=Verb)(calibrate.calibrate)
app.command("tune", cls=Verb)(tune.tune)
app.command("plan", cls=Verb)(plan.plan)
app.command("sweep", cls=Verb)(sweep.sweep)
app.add_typer(import_files.app, name="import")
app.command("report", cls=Verb)(report.report)
app.command("systems", cls=Verb)(systems.systems)
app.command("dashboard", cls=Verb)(dashboard.dashboard)


def _version(asked: bool) -> None:
    if asked:
        print(f"specsim {__version__}")
        raise typer.Exit


@app.callback()
def _specsim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def run() -> None:
    """Entry point of the console script."""
    gc.set_threshold(BETWEEN_COLLECTIONS)
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; a warning is one line too."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"specsim: {message}", file=sys.stderr)
        return _status_of(arguments)


def _status_of(arguments: Sequence[str]) -> int:
    try:
        status = app(args=list(arguments), prog_name="specsim", standalone_mode=False)
    except SpecsimError as error:
        return _fail(str(error), error.exit_status)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}; choose a path that can be used", 2)
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's own usage errors
        if message is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message(), file=sys.stderr)
            return 2
        from specsim.specs.faults import in_plain_words  # not before it is needed: pydantic takes a while

        verb = getattr(getattr(error, "ctx", None), "command_path", "specsim")
        return _fail(f"{in_plain_words(message()).rstrip('.')}; see {verb} --help", 2)
    if status == INTERRUPTED:  # typer turns Ctrl-C into this status
        return _fail("stopped by Ctrl-C; measured rows are kept, and the same command goes on from there", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    words = (word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..." for word in message.split())
    print(f"specsim: {' '.join(words)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    run()
