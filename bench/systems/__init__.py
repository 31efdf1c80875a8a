"""Each system that is measured: a program that ``bench.processes`` starts, ``python -m bench.systems.X CONFIG``."""
