"""Seeds of networks that are not trained at all, kept as if they were: enough to be drawn."""

import shutil

import torch
from rich.console import Console

from reproductions.evaluation import evaluate
from reproductions.execute import _keep as keep
from reproductions.execute import build, load_data
from reproductions.spec import load_paper
from reproductions.training import make_accelerator
from tests.reproductions.conftest import MINI


def mini_with(shell, monkeypatch, rows):
    """The mini paper with more rows, in TOML, where the shell's commands look for it."""
    folder = shell.folder / "papers" / "mini"
    shutil.copytree(MINI / "mini", folder)
    head, cited = (folder / "paper.toml").read_text().split("[cited]")
    (folder / "paper.toml").write_text("\n".join([head, *rows, f"[cited]{cited}"]))
    shell.environment["RETABLE_PAPERS"] = str(folder.parent)
    monkeypatch.setenv("RETABLE_CACHE", shell.environment["RETABLE_CACHE"])
    return load_paper("mini", folder.parent)


def keep_untrained(job, change=None):
    """Keep seed 0 with weights as they are drawn, or as ``change`` leaves them, and its ranking."""
    console, size = Console(quiet=True), (job.recipe.height, job.recipe.width)
    data = load_data(job.data, job.beside, 0, *size, torch.device("cpu"), console)
    method = build(job, 0, data.num_pids).eval()
    if change:
        with torch.no_grad():
            change(method)
    accelerator = make_accelerator("cpu", "fp32")
    judged = evaluate(method, data.test, data.lists, accelerator, job.recipe.ranking, console)
    keep(job, 0, method, judged[0].result.ranks)
