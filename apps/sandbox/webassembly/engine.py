"""Configure wasmtime, the same for compiling Python as for running it."""

import wasmtime

STACK_BYTES = 2 << 20  # the most that wasmtime takes without another setting


def engine() -> wasmtime.Engine:
    """Return a new engine; machine code runs only in an engine like the one that compiled it."""
    config = wasmtime.Config()
    config.max_wasm_stack = STACK_BYTES
    return wasmtime.Engine(config)
