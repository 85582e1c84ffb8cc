"""What ``import specsim`` offers: it is cheap, typed by its own list, and its examples are true."""

from __future__ import annotations

import doctest
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import specsim
from specsim.api.words import FIELDS, QuestionOptions
from specsim.cli.main import main
from specsim.scenario import ShortOptions

FUNCTIONS = [name for name in specsim.__all__ if inspect.isfunction(getattr(specsim, name))]
H100: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "h100", "drafter": "eagle-3"}


def test_the_list_is_sorted_and_every_name_is_there() -> None:
    assert specsim.__all__ == sorted(specsim.__all__)
    assert dir(specsim) == specsim.__all__
    assert all(getattr(specsim, name) for name in specsim.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simulated'"):
        _ = specsim.simulated  # type: ignore[attr-defined]


def test_importing_it_imports_nothing_that_takes_time() -> None:
    heavy = "{'numpy', 'scipy', 'pydantic', 'yaml', 'simpy', 'numba'}"
    code = f"import sys, specsim; print(sorted({heavy} & sys.modules.keys()), specsim.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", specsim.__version__]


def test_what_answers_by_formula_imports_nothing_that_simulates() -> None:
    """numba, SimPy and scipy.stats take longer than the answer."""
    code = (
        "import sys, specsim.report.document, specsim.planning.plan.growth, specsim.dashboard.page\n"
        "print(sorted({'numba', 'simpy', 'scipy.stats'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_its_examples_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(specsim, name)
    found = doctest.DocTestFinder().find(function, name, globs={"specsim": specsim})
    examples = [test for test in found if test.examples]
    assert examples, f"{name} has no example"
    for test in examples:
        failed, _ = doctest.DocTestRunner(verbose=False).run(test)
        assert not failed


def test_its_words_are_the_command_lines() -> None:
    fields = {FIELDS.get(word, word) for word in get_type_hints(QuestionOptions) if word != "set"}
    assert fields == set(ShortOptions.__dataclass_fields__)


def test_its_figures_are_the_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "llama-3.1-8b", "--gpu", "h100", "--drafter", "eagle-3", "--set", "engine.max_num_seqs=64"]
    assert main(["predict", *words, "--batches", "1,8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = specsim.predict(**H100, set={"engine.max_num_seqs": 64}, batches=[1, 8])  # type: ignore[arg-type]
    assert json.loads(json.dumps(found.map.as_json())) == {name: printed[name] for name in found.map.as_json()}
    assert found.verdict.as_json() == printed["verdict"]
    assert list(found.asked.assumed) == printed["assumed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"modle": "x"}, "unknown word 'modle'; did you mean model"),
        ({**H100, "tp": 1.5}, "tp is 1.5; give a whole number of 1 or more"),
        ({**H100, "rate": "4"}, "rate is '4', text; give requests per second"),
        ({**H100, "set": ["seed=1"]}, r"set is \['seed=1'\], a list; give fields by path"),
        ({"gpu": "h100"}, "neither a scenario nor --model"),
        ({**H100, "modle": "x", "tp": 0, "drafter": "none of it"}, r"3 faults: .*'modle'.*tp is 0.*'none of it'"),
        ({"model": "none of it", "rate": "4"}, r"3 faults: .*rate is '4'.*--gpu.*unknown model 'none of it'"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words: dict[str, object], said: str) -> None:
    with pytest.raises(specsim.InvalidInput, match=said):
        specsim.ask(**words)  # type: ignore[arg-type]


def test_a_question_is_asked_on_and_a_finished_one_is_left_alone() -> None:
    asked = specsim.ask(**H100, rate=4)  # type: ignore[arg-type]
    assert specsim.ask(asked) is asked
    assert specsim.ask(asked, drafter="off").scenario == asked.scenario.without_speculation()
    assert specsim.ask(asked.scenario).scenario is asked.scenario
    with pytest.raises(specsim.InvalidInput, match="tp is given with a finished Scenario"):
        specsim.ask(asked.scenario, tp=2)


def test_answers_show_themselves_shortly_and_as_escaped_html() -> None:
    found = specsim.predict(**H100, batches=[1, 8])  # type: ignore[arg-type]
    assert repr(found).startswith("<Prediction: ON at batch 8: draft")
    assert len(repr(found)) < 250
    html = found._repr_html_()
    assert html.count("<tr>") == 1 + len(found.map.batches)
    assert "output tokens/s" in html
    hostile = specsim.ask(**H100, set={"name": "<script>"})  # type: ignore[arg-type]
    assert "<script>" not in specsim.predict(hostile, batches=[1])._repr_html_()


def test_long_results_show_themselves_shortly(tmp_path: Path) -> None:
    """A run of a thousand records, a schedule of a hundred rows, a comparison, a law."""
    small = {"workload.requests": 40}
    log = tmp_path / "bench.json"
    log.write_text(
        '{"spec_decode_num_drafts": 100, "spec_decode_draft_tokens": 300, "spec_decode_accepted_tokens": 140,'
        ' "spec_decode_per_position_acceptance_rates": [0.7, 0.45, 0.25]}'
    )
    found = [
        specsim.simulate(**H100, set=small),  # type: ignore[arg-type]
        specsim.tune(**H100, simulate=False, batches=[1, 8, 64]),  # type: ignore[arg-type]
        specsim.compare(**H100, drafters=["eagle-3"], batches=[1], simulated=0, set=small),  # type: ignore[arg-type]
        specsim.fit(log),
        specsim.ask(**H100),  # type: ignore[arg-type]
    ]
    assert repr(specsim.predict(**H100, batches=[1, 8]).map).startswith("<SpeedupMap: batch sizes 1 to 8, k 0 to 3")  # type: ignore[arg-type]
    for one in found:
        assert repr(one).startswith("<")
        assert len(repr(one)) < 250
        html = one._repr_html_()
        assert html.startswith("<p><b>")
        assert "<td>" in html


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            lambda: specsim.predict(batch="8", batches=4, **H100),
            ["batch is '8', text; give a whole number", "batches is 4"],
        ),
        (
            lambda: specsim.predict(batches="1,8", **H100),
            ["batches is '1,8', text; give a list of whole numbers or None"],
        ),
        (lambda: specsim.predict("llama-3.1-8b", "h100"), ["predict: too many positional arguments"]),
        (lambda: specsim.simulate(3), ["scenario is 3, a number"]),
        (
            lambda: specsim.compare(drafters="eagle-3", fit=["x"]),
            ["drafters is 'eagle-3', text", "fit is ['x'], a list"],
        ),
        (
            lambda: specsim.plan(gpus="h100", price=[2], growth="8"),
            ["gpus is 'h100'", "price is [2]", "growth is '8'"],
        ),
        (
            lambda: specsim.tune(prefer="best", tolerance=None),
            ["prefer is 'best', text; give one of 'throughput', 'sure'"],
        ),
        (lambda: specsim.fit(["a.log"]), ["logs is ['a.log'], a list; give text or a Path"]),
        (lambda: specsim.write_report(3), ["path is 3, a number"]),
        (lambda: specsim.load_scenario(3), ["reference is 3, a number; give text"]),
        (lambda: specsim.ask(model=3, tp="2", rate="4"), ["model is 3, a number", "tp is '2'", "rate is '4', text"]),
        (lambda: specsim.ask(set={"seed": object()}), ["set {'seed': <object", "give numbers, text, lists and dicts"]),
    ],
)
def test_what_is_of_the_wrong_type_is_told_in_one_line(asked: Callable[[], object], told: list[str]) -> None:
    with pytest.raises(specsim.InvalidInput) as caught:
        asked()
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)
    assert all(fault in str(caught.value) for fault in told), caught.value


def test_numbers_and_arrays_of_numpy_are_numbers_and_lists() -> None:
    found = specsim.predict(batch=np.int64(8), batches=np.array([1, 8]), context=np.float64(700), **H100)
    assert found.map.batches == [1, 8]
    assert specsim.ask(draft_tokens=np.int32(2), **H100).scenario.speculation.max_draft_tokens == 2


@pytest.mark.parametrize("batches", [np.array(8), np.zeros((2, 2))])
def test_an_array_that_is_no_list_is_told_in_one_line(batches: object) -> None:
    with pytest.raises(specsim.InvalidInput, match=r"batches is array.*; give a list of whole numbers") as caught:
        specsim.predict(batches=batches, **H100)
    assert "\n" not in str(caught.value)


def test_no_log_is_no_fit() -> None:
    with pytest.raises(specsim.InvalidInput, match="fit is given no log"):
        specsim.fit()
