"""Images from Korean prompts."""
