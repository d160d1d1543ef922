# syntax=docker/dockerfile:1
# docker build --target cpu -t folioscope .          any machine, the embedded models inside
# docker build --target cuda -t folioscope:cuda .    with torch, transformers and colpali-engine for the GPU profiles
# docker run -p 127.0.0.1:7860:7860 -v "$PWD/data:/data" -e FOLIOSCOPE_TOKEN=... folioscope

FROM python:3.11-slim-bookworm AS cpu
# Debian keeps only the newest version of a package: a pinned one soon cannot be had.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends poppler-utils tesseract-ocr \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 folio
WORKDIR /app
COPY requirements/base.txt requirements/base.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/base.txt
COPY LICENSE NOTICE README.md pyproject.toml ./
COPY configs configs
COPY retrieval retrieval
COPY rerankers rerankers
COPY ingest ingest
COPY ui ui
COPY models models
COPY samples samples
RUN pip install --no-cache-dir --no-deps --editable . && mkdir /data && chown folio /data
USER 1000
ENV FOLIOSCOPE_INDEX=/data/folioscope.lance HF_HUB_OFFLINE=1
# No library reports to its makers: configs/privacy.py sets the same for every process of Folioscope.
ENV ORT_DISABLE_TELEMETRY=1 GRADIO_ANALYTICS_ENABLED=False HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 RAY_USAGE_STATS_ENABLED=0
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/health')"]
# Inside a container every address is public: it needs FOLIOSCOPE_TOKEN (20 characters or more), or --users /data/users.txt.
CMD ["folioscope", "serve", "--host", "0.0.0.0"]

FROM cpu AS cuda
USER root
# Triton compiles a few lines of C for the GPU that it finds.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/gpu.txt requirements/gpu.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/gpu.txt
USER 1000
