"""Making pictures, ours and diffusers': what is timed, and both sides of it."""
