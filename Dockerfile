# To use another base image, for example one with a shell: --build-arg BASE=...
# To build for another architecture: docker buildx build --platform linux/arm64.
ARG BASE=scratch

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -tags grpcnotrace -ldflags '-s -w' -o /gke-metadata-emulator ./cmd/gke-metadata-emulator

FROM ${BASE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /gke-metadata-emulator /gke-metadata-emulator
# The daemon runs as root: for another user, capabilities work only if the file has them as
# well, and not every registry and runtime preserves file capabilities. The DaemonSet drops
# all capabilities except those of its modes. standalone needs none: docker run --user 65532.
ENTRYPOINT ["/gke-metadata-emulator"]
CMD ["serve"]
