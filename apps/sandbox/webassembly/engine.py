"""The one way that a machine is compiled and run."""

import wasmtime

STACK_BYTES = 2 << 20  # the most that wasmtime takes without another setting


def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.max_wasm_stack = STACK_BYTES
    return wasmtime.Engine(config)
