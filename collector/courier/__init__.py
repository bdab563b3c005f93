"""The delivery process: drains the outbox to Meta and keeps the house."""

import sys

# httpx loads its own command line where click and rich are installed (Litestar brings both), and goes on without it
# where they are not. Nobody here has a use for it: 84 modules, 5 MB and a fifth of a second of each start.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
