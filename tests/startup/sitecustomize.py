"""Python imports this file when a process of a test starts (PYTHONPATH in tests/conftest.py).

JAX creates very many objects while it traces, and a garbage collection after every 700 of them, Python's default, takes
a tenth of the time of a short training.
"""

import gc

gc.set_threshold(50_000)
