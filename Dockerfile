FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /gke-metadata-emulator ./cmd/gke-metadata-emulator

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /gke-metadata-emulator /gke-metadata-emulator
ENTRYPOINT ["/gke-metadata-emulator"]
CMD ["serve"]
