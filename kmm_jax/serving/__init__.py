"""Multimodal document search as a service (slide 5.1): HTTP with OpenAPI, and a page of its own."""
