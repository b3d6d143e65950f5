"""The notebook for newcomers keeps what its sentences promise, and is stored without what it once printed."""

import io
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell

import mmfusion

FILE = Path(mmfusion.__file__).with_name("tutorial.ipynb")
MODELS = ["poster (cnn)", "overview (bilstm)", "late (cnn + bilstm)", "joint (cnn + bilstm)"]
# What a reader sees as a table, once more as text for the test.
ASKED = 'print(by_genre.to_json(), some.index.isin(joint.split["test"]).all(), predicted.to_json(), sep="\\n")'


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(FILE, as_version=4)


@pytest.fixture(scope="module")
def outputs(stored, tmp_path_factory):
    """What each cell shows, by its id, after a kernel has gone through the whole notebook in an empty folder."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND")  # the kernel names its own
        patch.setenv("MMFUSION_CACHE", str(folder / "cache"))
        patch.setenv("TMPDIR", str(folder))
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(folder / "jupyter"))
        book = nbformat.from_dict(stored)
        book.cells = [*book.cells, new_code_cell(ASKED, id="asked")]
        client = nbclient.NotebookClient(book, timeout=170, resources={"metadata": {"path": str(folder)}})
        done = client.execute()
    return {cell.id: cell.outputs for cell in done.cells if cell.cell_type == "code"}


def said(outputs) -> str:
    return "".join(one.text for one in outputs if one.output_type == "stream")


def test_it_is_stored_without_what_it_once_printed(stored):
    nbformat.validate(stored)
    assert stored.metadata.language_info.name == stored.metadata.kernelspec.language == "python"
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_it_runs_whole_without_a_warning(outputs):
    for cell in outputs.values():
        assert "warning" not in said(cell).lower()
        assert all(one.output_type != "error" for one in cell)


def test_it_shows_how_the_frame_was_understood(outputs):
    assert ": 600 rows, 3 columns" in said(outputs["late"])
    assert "columns: id = id, overview = overview, genres = genres" in said(outputs["late"])
    assert "600 films; 600 with a poster, 600 with an overview" in said(outputs["late"])


def test_what_it_shows_is_what_it_says(outputs):
    by_genre, of_test_films, predicted = said(outputs["asked"]).splitlines()
    by_genre = pd.read_json(io.StringIO(by_genre))[MODELS]
    poster, overview, late, joint = (by_genre[model] for model in MODELS)
    for number in (1, 2):
        assert poster[f"poster_{number}"] > 0.9 > 0.75 > overview[f"poster_{number}"]
        assert overview[f"overview_{number}"] > 0.9 > 0.75 > poster[f"overview_{number}"]
        assert min(fusion[f"{one}_{number}"] for fusion in (late, joint) for one in ("poster", "overview")) > 0.9
        assert joint[f"xor_{number}"] > 0.9 > 0.75 > late[f"xor_{number}"]
    assert of_test_films == "True"
    new = pd.read_json(io.StringIO(predicted), orient="columns")
    assert new["poster_1"]["poster alone"] > 0.8
    assert new["overview_2"]["overview alone"] > 0.8
    assert new["xor_1"]["both"] > 0.6


def test_its_tables_and_its_gallery_are_drawn(outputs):
    kinds = {name: {kind for one in cell for kind in one.get("data", ())} for name, cell in outputs.items()}
    assert "image/png" in kinds["gallery"]
    for name in ("films", "scores", "genres", "new", "new-late", "lists"):
        assert "text/html" in kinds[name]
