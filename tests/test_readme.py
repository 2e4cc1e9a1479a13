"""The README as a reader takes it: every block runs as written, in order, offline, and what it names is there."""

import re
import shlex
import shutil
from importlib.metadata import metadata
from pathlib import Path

import pytest
from distributed import Client
from jupyter_server.serverapp import ServerApp

import blip_trace_widget
from blip_trace_widget import DatasetTrace, TraceWidget, demo_samples, examples
from blip_trace_widget.__main__ import main, parser
from helpers.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
MODEL = Path(blip_trace_widget.__file__).parent / "demo" / "model"


def text(page):
    return (ROOT / page).read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(start):
    lines = "".join(blocks("sh")).replace("\\\n", "").splitlines()
    return [line for line in lines if line.startswith(start)]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/benchmarks/README.md"]
)
def test_the_files_that_a_page_names_are_there(page):
    named = set(
        re.findall(r"\b(?:tests|notebooks|js|blip_trace_widget)/[\w/.-]+\.(?:py|ts|tsx|md|ipynb|json)\b", text(page))
    )
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with what a reader has who has downloaded BLIP and COCO-QA; BLIP is the built-in model."""
    shutil.copytree(MODEL, tmp_path / "Salesforce" / "blip-vqa-base")
    examples()[0].image.save(tmp_path / "photo.jpg")
    (tmp_path / "train2017").mkdir()
    rows = [",train_image_id_count,question_count,answer_count"]
    for number, one in enumerate(demo_samples(3)):
        one.image.save(tmp_path / "train2017" / f"{number:012}.jpg")
        rows.append(f'{number},{number},"{one.question}",{one.answer}')
    (tmp_path / "color_coco_qa.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


def test_every_block_of_python_runs_in_order(reader):
    import matplotlib.pyplot as plt

    names = {}
    try:
        for number, block in enumerate(blocks("python")):
            exec(compile(block, f"README.md, block {number} of Python", "exec"), names)
    finally:
        plt.close("all")
        for value in names.values():
            if isinstance(value, (Client, TraceWidget)):
                value.close()
    assert names["effect"].recovery > 0.2
    assert names["widget"].noise == names["slider"].value == 2
    assert names["widget"].trace.recovery.shape == (names["model"].layers, len(names["tracer"].question_tokens))
    assert names["found"].counts["traced"] > 20
    assert {"trace.html", "trace.pdf", "trace.safetensors", "lesson.safetensors", "results"} <= {
        path.name for path in reader.iterdir()
    }


def test_the_commands_of_the_shell_run(reader, capsys):
    (line,) = commands("python -m blip_trace_widget trace")
    assert main([*shlex.split(line)[3:], "--samples", "2", "--blocks", "answer_decoder"]) == 0
    out = Path(parser().parse_args(shlex.split(line)[3:]).out)
    assert len(DatasetTrace.load(out)) == 3
    assert capsys.readouterr().out.splitlines()[-1] == f"results: {out.absolute()}"


def test_the_extras_that_it_installs_are_there():
    known = metadata("blip_trace_widget").get_all("Provides-Extra")
    named = set(re.findall(r'pip install (?:-e )?"\.\[(\w+)\]"', README))
    assert {"lab", "data", "export", "test"} == named <= set(known)


def test_jupyterlab_is_opened_where_readme_and_notebooks_can_both_be_reached(monkeypatch):
    monkeypatch.chdir(ROOT)
    (line,) = commands("jupyter lab")
    server = ServerApp()
    server.parse_command_line(shlex.split(line)[2:])
    assert (Path(server.root_dir) / "README.md").samefile(ROOT / "README.md")
    assert Path(server.file_to_run).is_file()
    assert Path(server.root_dir).resolve() in Path(server.file_to_run).resolve().parents


def test_what_one_has_to_do_first_stands_first():
    assert README.index("CPU build") < README.index("pip install")


def test_its_links_into_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_how_a_notebook_keeps_its_figure_is_said(filled_widget):
    """With JupyterLab's default settings it does not, and says "model not found" when it is opened again."""
    quickstart = (ROOT / "notebooks" / "quickstart.ipynb").read_text("utf-8")
    for text in (README, quickstart, filled_widget._repr_mimebundle_()[0]["text/plain"]):
        assert "Settings, Save Widget State Automatically" in text


def test_the_map_for_newcomers_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([\w./]+\.(?:py|tsx?|toml))", text)) - {"charts/NAME.py"}
    assert len(named) > 20
    rooms = [ROOT, ROOT / "blip_trace_widget", ROOT / "js" / "src", *(ROOT / "blip_trace_widget").glob("*/")]
    lost = {name for name in named if not any((room / name).exists() for room in rooms)}
    assert not lost
