"""``python -m kmm_jax`` is the ``kmm`` command."""

from kmm_jax.cli import main

raise SystemExit(main())
