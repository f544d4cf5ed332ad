# One image for every process of the OCR service: the gateway and each of its stages.
#
#   docker build -t meshline-ocr .
#   docker run meshline-ocr mesh stage detect -c compose.toml --gateway tcp://GATEWAY:7000

ARG BASE=python:3.11-slim
FROM ${BASE}

# Safe path: nothing is imported from the folder that a process happens to start in.
ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What changes seldom comes first: the models, then what the project depends on, then the project.
COPY examples/ocr/requirements.txt ./
RUN pip install --no-deps --require-hashes -r requirements.txt
COPY requirements.lock ./
RUN pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY mesh mesh
COPY gateway gateway
COPY stage stage
RUN pip install --no-deps --no-build-isolation . && rm -rf /build

COPY examples/ocr /service
# Volumes that are mounted there belong to that user, too: /keys of whoever runs, and below /made one of
# each part for the process that makes the keys of all.
ARG PARTS="gateway stage-decode stage-detect stage-recognize"
RUN useradd --system --create-home mesh && install --directory --mode=700 --owner=mesh /keys \
    && for part in $PARTS; do install --directory --mode=700 --owner=mesh "/made/$part"; done
USER mesh
WORKDIR /service
EXPOSE 8000 7000
CMD ["mesh", "up", "-c", "compose.toml"]
