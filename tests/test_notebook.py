"""The notebook runs from its first cell to its last in a kernel of its own, in small; outputs are not kept in git."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

SMALL = 'MINUTES, SIZE, BATCH, TASK = 0, 32, 1, "meie"\nNETWORK = {"width": 4, "heads": 2, "blocks": 1, "expansion": 1}'


@pytest.fixture
def notebook(repo):
    return nbformat.read(repo / "examples" / "tour.ipynb", 4)


def test_it_is_kept_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


def test_it_runs_and_its_meta_gradient_is_the_finite_difference(repo, notebook):
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source = SMALL
    notebook.cells.append(nbformat.v4.new_code_cell("print(relative_error)"))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(repo)}}).execute()
    assert float(notebook.cells[-1].outputs[0].text) < 1e-3
    pictures = [x for cell in notebook.cells for x in cell.get("outputs", ()) if "image/png" in x.get("data", {})]
    assert len(pictures) == 3
