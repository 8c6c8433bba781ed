module gke-metadata-emulator/examples/laptop

go 1.26.8

require golang.org/x/oauth2 v0.37.0

require (
	cloud.google.com/go/compute/metadata v0.10.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
