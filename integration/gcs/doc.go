// Package gcs is a stand-in for Cloud Storage: fake-gcs-server behind a front that requires
// a token of fakegoogle, so a test knows which principal wrote an object.
//
// The front checks what Cloud Storage checks first: that there is a token, that it is
// genuine and has not expired, and that its scopes suffice. It looks up the token in
// fakegoogle by HTTP, so both can be in different processes. [Options.Authorize] decides
// about IAM permissions on buckets. fake-gcs-server does everything else, in memory.
//
// A V4 signed URL of the XML API replaces a token: the signature is verified with the
// account's keys of fakegoogle, and has the permissions of the account.
//
// # Reaching it with an unmodified client
//
// STORAGE_EMULATOR_HOST is of no use: the Go client then sends no token at all
// (storage v1.70.0 puts option.WithoutAuthentication before its other options). Use [Proxy]
// instead. It replaces https://storage.googleapis.com for clients that have
//
//	HTTPS_PROXY=http://127.0.0.1:PORT
//	SSL_CERT_FILE=FILE_WITH_PROXY_CA
//
// and refuses every other host, so nothing leaves the machine. Go ignores
// SSL_CERT_FILE on macOS and Windows; see crypto/x509.SystemCertPool.
//
// # Limitations
//
// V2 signed URLs, POST policies, resumable uploads by signed URL, anonymous access to public
// objects, object ACLs, IAM conditions, managed folders (there are none), batches and gRPC
// are not supported. Overwriting an object needs no permission to delete it, which Google
// requires. A resumable upload is not bound to the caller that began it.
package gcs
