# mirror-rt serve, in two stages: what is built stays behind, what runs has no compiler and no root.
#
#   docker build -t mirror-rt .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8080:8080 -v ./data:/data:ro mirror-rt --kb my-kb=/data/my-kb
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mirror_rt mirror_rt
COPY cli cli
RUN python -m venv /opt/mirror-rt \
 && /opt/mirror-rt/bin/python -m pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim
# libgomp is what onnxruntime and FAISS are linked to.
RUN apt-get update && apt-get install -y libgomp1 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent mirror
COPY --from=build /opt/mirror-rt /opt/mirror-rt
USER 10001
ENV PATH=/opt/mirror-rt/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/ready', timeout=2)"]
ENTRYPOINT ["mirror-rt", "serve", "--host", "0.0.0.0"]
