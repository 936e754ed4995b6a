# The service, for CPUs. INDEX is the index of torch's CPU build that pytorch.org names.
#
#   docker build --build-arg INDEX=<that index> --tag sledgehammer .
#   docker run --rm --publish 127.0.0.1:8000:8000 --volume "$PWD/runs/mine/model.tar.gz:/model.tar.gz:ro" \
#     sledgehammer --threshold 0.9
FROM python:3.12-slim

ARG INDEX
RUN test -n "$INDEX" || { echo "wanted --build-arg INDEX=<index of torch's CPU build>"; exit 1; }
RUN pip install --no-cache-dir --index-url "$INDEX" torch

COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE /package/
COPY sledgehammer_allennlp /package/sledgehammer_allennlp
RUN pip install --no-cache-dir "/package[serve]" && rm -r /package

RUN useradd --create-home service
USER service
WORKDIR /home/service
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "sledgehammer_allennlp", "serve", "/model.tar.gz", "--host", "0.0.0.0"]
