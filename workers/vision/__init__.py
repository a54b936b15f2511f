"""Shared code of vision families: preprocessing, decoding of outputs, NMS and drawing."""
