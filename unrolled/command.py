"""`unrolled COMMAND ...`, short for `python -m PACKAGE.COMMAND ...`, and `unrolled demo`."""

import os
import runpy
import sys

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": "unrolled.train",
    "handset": "unrolled.handset",
    "fit": "unrolled.fit",
    "attention": "probes.attention",
    "controls": "probes.controls",
    "layers": "probes.layers",
    "modes": "probes.modes",
    "replacement": "probes.replacement",
    "spatial": "probes.spatial",
    "stability": "probes.stability",
    "video": "probes.video",
    "check": "theory.check",
    "bound": "theory.bound",
    "guarantee": "theory.guarantee",
    "compare": "reports.compare",
    "build": "reports.build",
    "sweep": "reports.sweep",
}
"""Command -> module. The names are fixed, since other packages stand on this one."""
DEMO = ["--ckpt", "example:ou", "--samples", "128", "--steps", "10", "--out", "demo"]
"""`unrolled demo` is `unrolled build` with these options, and those that are given after them."""


def main() -> None:
    """Run the module of the first argument with the others, as `python -m` does; without one, list the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "demo":
        name, arguments = "build", [*DEMO, *arguments]
    if name in COMMANDS:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as with `python -m`
        sys.argv = [f"unrolled {name}", *arguments]
        runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
    elif name in ("--help", "-h"):
        print("usage: unrolled COMMAND [--help] ...\n")
        print("  demo         from a network that ships with the package to pages about it, in the folder demo")
        print("\n".join(f"  {command:<12} python -m {module}" for command, module in COMMANDS.items()))
    else:
        sys.exit(_unknown(name))


def _unknown(name: str) -> int:
    print(f"error: command: {name!r} is not accepted; accepted: demo, {', '.join(COMMANDS)}", file=sys.stderr)
    return 2
