"""Multimodal document search (section 5 of the talk): documents with texts and images."""
