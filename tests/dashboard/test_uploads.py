"""Files and pasted commands become the question; hostile ones are refused in one line, and the page lives on."""

from __future__ import annotations

import gzip
import json
import resource
import sys
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from tests.dashboard import hostile
from tests.dashboard.pages import answered, cards, command, frames, opened, scenario_file, text
from tests.fuzz.inputs import LOGS, METRICS, RESULTS, TRACE_CSV

QUICK = {"model": "qwen3-8b", "gpu": "h100-sxm", "drafter": "eagle3", "prices": "roofline"}
MOST_GROWTH_KB = 400_000


def given(app: AppTest, kind: str, *files: tuple[str, bytes]) -> AppTest:
    """The page after files of a kind were given."""
    if app.selectbox(key="upload kind").value != kind:
        app.selectbox(key="upload kind").set_value(kind).run()
    uploader = app.get("file_uploader")[0]
    asked = [(name, content, "text/plain") for name, content in files]
    return uploader.set_value(asked if uploader.accept_multiple_files else asked[0]).run()


def pasted(app: AppTest, words: str) -> AppTest:
    """The page after a command line was pasted and read."""
    app.text_area(key="pasted").set_value(words)
    return next(button for button in app.button if button.label == "Read it").click().run()


def told(app: AppTest) -> str:
    """What the page says of an upload that it took."""
    assert not app.exception, app.exception[0].value
    return str(app.success[0].value)


def test_a_config_becomes_the_model() -> None:
    app = given(opened(**QUICK), hostile.MODEL, ("config.json", hostile.config()))
    assert "8.03B parameters" in told(app)
    answered(app)
    assert command(app)[1] == "scenario.yaml"
    again = opened(**{key: value for key, value in app.query_params.items() if isinstance(value, str)})
    answered(again)
    assert cards(again) == cards(app)  # the link holds the model itself


def test_a_trace_becomes_the_load(tmp_path: Path) -> None:
    app = given(opened(**QUICK), hostile.TRACE, ("../../my trace.csv", TRACE_CSV.encode()))
    assert "my_trace.csv: 12 requests" in told(app)
    answered(app)
    assert "requests/s" in cards(app)[0]
    workload = yaml.safe_load(scenario_file(app, tmp_path).read_text())["workload"]
    assert workload["path"] == "my_trace.csv"
    app.text_area(key="set").set_value("workload.requests=13").run()
    assert app.error[0].value.replace("\\", "").startswith("trace my_trace.csv has 12 requests")
    app.text_area(key="set").set_value(None).run()
    other = opened(**{key: value for key, value in app.query_params.items() if isinstance(value, str)})
    assert "none of that name was uploaded here" in other.error[0].value.replace("\\", "")


@pytest.mark.parametrize("log", [METRICS, LOGS[0], json.dumps(RESULTS[4])])
def test_logs_become_the_acceptance(log: str) -> None:
    app = given(opened(view="Acceptance", **QUICK), hostile.LOGS, ("server.txt", log.encode()))
    assert "acceptance length" in told(app)
    answered(app)
    assert "law:" in text(app)
    assert "your logs" in frames(app)[0].columns
    app.selectbox(key="drafter").set_value("ngram").run()
    assert app.text_input(key="acceptance").value is None  # it was the other drafter's


def test_a_load_test_becomes_the_load_and_is_set_beside_its_prediction() -> None:
    app = given(opened(view="Evidence", **QUICK), hostile.RESULT, ("bench.json", json.dumps(RESULTS[0]).encode()))
    assert "64 requests of 719 and 256 tokens" in told(app)
    answered(app)
    assert app.number_input(key="concurrency").value == 8
    assert any(button.label == "Simulate this load" for button in app.button)


def test_a_drafter_and_a_head_become_the_program() -> None:
    program = yaml.safe_load((Path("specsim") / "speculation" / "presets" / "ngram.yaml").read_text())
    app = given(opened(**QUICK), hostile.DRAFTER, ("mine.yaml", yaml.safe_dump(program | {"name": "mine"}).encode()))
    assert "draft program mine" in told(app)
    answered(app)
    assert any("drafter mine" in caption.value for caption in app.caption)


def test_a_profile_becomes_the_gpu() -> None:
    folder = next(Path("profiles").glob("*cpu*"), None) or next(Path("profiles").glob("*/profile.yaml")).parent
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".csv")]
    app = given(
        opened(**QUICK | {"model": "qwen3-0.6b", "drafter": "off", "prices": "kernels"}), hostile.PROFILE, *files
    )
    assert "profile of" in told(app)
    answered(app)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vllm serve meta-llama/Llama-3.3-70B-Instruct -tp 4 --max-num-seqs 64 --kv-cache-dtype fp8", "4 x H100-SXM"),
        ("python -m sglang.launch_server --model-path Qwen/Qwen3-8B --speculative-algorithm NGRAM", "sglang"),
        ('vllm serve x/y --speculative-config \'{"method": "ngram", "num_speculative_tokens": 3}\'', "drafter ngram"),
    ],
)
def test_a_command_line_becomes_the_server(line: str, words: str) -> None:
    app = pasted(opened(**QUICK), line)
    told(app)
    answered(app)
    assert any(words in caption.value for caption in app.caption)


@pytest.mark.parametrize(
    "line", ["rm -rf /", "vllm serve 'unbalanced", "vllm", "x" * 19_000, "--config /etc/passwd ; "]
)
def test_what_starts_no_server_is_one_line(line: str) -> None:
    app = pasted(opened(**QUICK), line)
    assert not app.exception
    answer = [*app.error, *app.success][0].value
    assert "\n" not in answer
    assert "root:" not in answer


def test_fifty_hostile_uploads_are_refused_and_the_page_lives_on() -> None:
    app = opened(**QUICK)
    before, card = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, cards(app)
    files = sorted(hostile.broken())  # by kind, which is chosen once each
    assert len(files) >= 50
    for kind, name, content in files:
        given(app, kind, (name, content))
        assert not app.exception, (kind, name, app.exception[0].value)
        assert app.error, (kind, name)
        assert "\n" not in app.error[0].value
        assert len(app.error[0].value) <= 800
        assert cards(app) == card, (kind, name)  # the question stands as it was
    assert not Path("/tmp/specsim-was-here").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KB


def test_a_compressed_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"1,2,3\n" * 1_000_000)
    app = given(opened(**QUICK), hostile.TRACE, ("trace.csv", bomb))
    assert app.error
    assert not app.exception


@pytest.fixture(scope="module")
def opens() -> list[str]:
    """Every path that Python opens from now on."""
    found: list[str] = []

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            found.append(str(arguments[0]))

    sys.addaudithook(hear)
    return found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Files that questions could be made of, were they read."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "config.json").write_bytes(hostile.config(_name_or_path="x/SECRET"))
    (folder / "law.yaml").write_text("{kind: constant, rate: 0.5}")
    (folder / "trace.csv").write_text(TRACE_CSV)
    (folder / "runs.jsonl").write_text('{"cap": 4}\n{"runs": [1, 2]}\n')
    for name in ("program", "model", "card", "profile"):
        (folder / f"{name}.yaml").write_text("name: SECRET\n")
    return folder


def test_no_path_of_the_user_reaches_the_file_system(opens: list[str], secret: Path) -> None:
    opens.clear()
    app = opened(**QUICK)
    for kind, name, content in hostile.reaching(secret):
        given(app, kind, (name, content))
        assert not app.exception, (content, app.exception[0].value)
        assert app.error, content
        assert "SECRET" not in text(app) + str(cards(app))
    links = (
        {"set": f"model={secret}/config.json"},
        {"base": json.dumps(hostile.PARTS | {"model": str(secret)})},
        {"set": f"workload={{kind: trace, path: {secret}/trace.csv}}"},
    )
    for link in links:
        app = opened(**({} if "base" in link else QUICK) | link)
        assert not app.exception
        assert app.error, link
    for line in (
        f"vllm serve {secret}",
        f"vllm serve x/y --config {secret}/model.yaml",
        f'vllm serve x/y --speculative-config \'{{"model": "{secret}", "num_speculative_tokens": 3}}\'',
        f"python -m sglang.launch_server --model-path {secret} --speculative-algorithm EAGLE3 --speculative-adaptive "
        f"--speculative-adaptive-config {secret}/config.json",
    ):
        pasted(app, line)
        assert not app.exception
        assert "SECRET" not in text(app) + str(cards(app))
    assert not [path for path in opens if str(secret) in path or path in ("/etc/passwd", "/dev/zero")]
