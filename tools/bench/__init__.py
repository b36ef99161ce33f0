"""Speed, measured as ratios within one run; each module's ``run() -> dict`` is one benchmark."""
