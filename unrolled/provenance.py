"""Where a result comes from: versions, git commit and command, as every file the project writes states them."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["command_line", "provenance"]


def provenance() -> dict[str, str]:
    """Versions of package, git commit (with `+changes` where the tree has some), torch, Python and platform."""
    try:
        package = version("unrolled")
    except PackageNotFoundError:
        package = "not installed"
    return {
        "package": package,
        "git": _git_commit(),
        "torch": str(torch.__version__),  # a subclass of str that weights_only refuses
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _git_commit() -> str:
    def git(*arguments: str) -> str:
        source = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):  # installed inside some other repository
            return "not in a repository"
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "not in a repository"


def command_line() -> str:
    """The command that runs now, as one would type it."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    if module is not None and module.name:
        name = module.name.removesuffix(".__main__")
        return f"python -m {name} {shlex.join(sys.argv[1:])}".rstrip()
    return f"{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}".rstrip()
