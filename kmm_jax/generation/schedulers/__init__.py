"""Samplers of diffusion models: `config` reads one, `build` makes its table, `sample` runs it."""
