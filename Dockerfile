# For another base, such as one with a shell or a policy's own: --build-arg BASE=...
# For another architecture: docker buildx build --platform linux/arm64.
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
# As root: a capability is of use to a process of another user only where the file
# has it too, which not every registry and runtime keeps. The DaemonSet drops all
# but those of its mode. standalone needs none: docker run --user 65532.
ENTRYPOINT ["/gke-metadata-emulator"]
CMD ["serve"]
