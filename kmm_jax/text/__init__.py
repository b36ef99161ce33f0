"""Korean text: normalisation, tokenizers, prompt styles, class names, templates, particles."""
