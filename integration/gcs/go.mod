module gke-metadata-emulator/integration/gcs

go 1.26.8

require (
	cloud.google.com/go/storage v1.70.0
	github.com/fsouza/fake-gcs-server v1.56.1
)
