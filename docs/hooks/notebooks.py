"""The notebooks as pages of the site: run from top to bottom, each with what it shows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHOWN = ["image/png", "text/html", "text/markdown", "text/plain"]  # the first that an output has


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs (`hooks` in mkdocs.yml); a notebook that fails ends the build."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, pictures = page(path)
        link = f"[This notebook]({path.name}), run when the site was built."
        title, _, rest = text.partition("\n")
        made = {f"{path.stem}.md": f"{title}\n\n{link}\n{rest}", **pictures}
        for name, content in made.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook after it was run, as Markdown, and its pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    if (
        os.environ.get("NOTEBOOKS") != "text"
    ):  # without output: quick, while other pages are written
        with tempfile.TemporaryDirectory() as folder:
            run = ExecutePreprocessor(timeout=900, kernel_name="python3")
            run.preprocess(notebook, {"metadata": {"path": folder}})
    exporter = MarkdownExporter(Config({"NbConvertBase": {"display_data_priority": SHOWN}}))
    names = {"unique_key": path.stem, "output_files_dir": "."}
    text, resources = exporter.from_notebook_node(notebook, names)
    return text.strip(), {Path(name).name: data for name, data in resources["outputs"].items()}
