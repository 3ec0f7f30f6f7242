# syntax=docker/dockerfile:1
# Two images from one file: `--target api` (no torch) and `--target worker`.
# A CPU-only torch comes from the index named by --build-arg PIP_EXTRA_INDEX_URL=…; without it, the default
# index's torch brings its CUDA libraries along, which is what a GPU worker wants.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/expunge
# Dependencies first: with no package beside it, pyproject.toml installs them and an empty distribution, in a
# layer that a change of code does not touch.
COPY pyproject.toml constraints.txt README.md ./
ARG API_EXTRAS=images,postgres,report,s3
RUN /opt/expunge/bin/pip install --constraint constraints.txt ".[${API_EXTRAS}]"

FROM build AS build-api
COPY app app
COPY models models
COPY unlearning unlearning
COPY migrations migrations
RUN /opt/expunge/bin/pip install --no-deps --force-reinstall .

FROM build AS build-worker
ARG PIP_EXTRA_INDEX_URL=
ARG WORKER_EXTRAS=worker,parquet,images,postgres,s3
RUN /opt/expunge/bin/pip install --constraint constraints.txt ".[${WORKER_EXTRAS}]"
COPY app app
COPY models models
COPY unlearning unlearning
COPY migrations migrations
RUN /opt/expunge/bin/pip install --no-deps --force-reinstall .

FROM python:3.13-slim AS runtime
ENV PATH=/opt/expunge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 expunge \
    && useradd --uid 10001 --gid expunge --no-create-home --home-dir /var/lib/expunge --shell /usr/sbin/nologin expunge \
    && install --directory --owner expunge --group expunge --mode 0750 /var/lib/expunge /var/lib/expunge-keyring
USER expunge
WORKDIR /var/lib/expunge
ENTRYPOINT ["expunge"]

FROM runtime AS worker
COPY --from=build-worker /opt/expunge /opt/expunge
# A worker's health is its lease, which the database judges: one that falls silent loses its job to another.
HEALTHCHECK NONE
CMD ["worker"]

# The last stage is what `docker build` makes when no target is named: the small image.
FROM runtime AS api
COPY --from=build-api /opt/expunge /opt/expunge
ENV EXPUNGE_HOST=0.0.0.0 EXPUNGE_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["api"]
