"""Scores of pictures and their texts: OCR, watermark, safety, similarity, and a user's own."""
