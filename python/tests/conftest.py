"""Markers of these tests."""


def pytest_configure(config):
    config.addinivalue_line("markers", "hf: needs transformers and what `pip install .[hf]` brings")
