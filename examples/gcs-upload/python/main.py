"""gcs-upload writes objects to a bucket, reads them back, and creates signed URLs,
like a Deployment in GKE with Workload Identity. It has no key, and its only setting
for Google is the bucket's name.
"""

import argparse
import datetime
import hashlib
import http.server
import io
import logging
import os
import signal
import socket
import sys
import threading

import google.auth
import google.auth.transport.requests
import requests
from google.cloud import storage

SMALL = 1 << 10  # one request
LARGE = 64 << 20  # a resumable upload
CHUNK = 16 << 20
URL_LIFETIME = datetime.timedelta(minutes=15)

log = logging.getLogger("gcs-upload")


class Rounds:
    """The work that the program repeats."""

    def __init__(self, bucket, folder):
        self.credentials, project = google.auth.default(
            scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        self.bucket = storage.Client(project, self.credentials).bucket(bucket)
        self.folder = folder

    def once(self):
        """Writes, lists, reads back and shares two objects."""
        for size in (SMALL, LARGE):
            self.check_object(f"{self.folder}/{size}", size)
        log.info("round done bucket=%s", self.bucket.name)

    def check_object(self, name, size):
        """Writes, lists, reads back and shares one object."""
        content = os.urandom(size)
        blob = self.bucket.blob(name, chunk_size=CHUNK)
        blob.upload_from_file(io.BytesIO(content), size=size)
        found = {b.name: b.size for b in self.bucket.list_blobs(prefix=self.folder + "/")}
        if found.get(name) != size:
            raise RuntimeError(f"{name} has {found.get(name)} bytes in the list, want {size}")
        if self.bucket.blob(name).download_as_bytes() != content:
            raise RuntimeError(f"{name}: the bytes that were read differ from the written bytes")
        if self.fetch(self.share(blob)) != content:
            raise RuntimeError(f"{name}: the bytes at the signed URL differ from the written bytes")
        log.info(
            "written, listed, read back and fetched by signed URL object=%s bytes=%d sha256=%s",
            name, size, hashlib.sha256(content).hexdigest(),
        )

    def share(self, blob):
        """Creates a URL that needs no credentials. The program has no key to sign it:
        with an account and a token, the library requests the signature from IAM."""
        if not self.credentials.valid:
            self.credentials.refresh(google.auth.transport.requests.Request())
        return blob.generate_signed_url(
            version="v4",
            expiration=URL_LIFETIME,
            method="GET",
            service_account_email=self.credentials.service_account_email,
            access_token=self.credentials.token,
        )

    def fetch(self, url):
        """Uses a signed URL, without credentials."""
        try:
            response = requests.get(url, timeout=60)
        except requests.RequestException as error:  # its text contains the URL, which is a secret
            raise RuntimeError(f"signed URL: {type(error).__name__}") from None
        if response.status_code != 200:
            raise RuntimeError(f"signed URL: {response.status_code} {response.text[:1000]}")
        return response.content


class Readiness(http.server.BaseHTTPRequestHandler):
    """Answers 200 at /ready if the last round succeeded."""

    ready = False
    timeout = 5

    def do_GET(self):
        ready = self.path == "/ready" and Readiness.ready
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bucket", required=True, help="name of the bucket")
    parser.add_argument("--every", type=float, default=60, help="seconds between two rounds")
    parser.add_argument("--port", type=int, default=8080, help="port of the endpoint /ready")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = http.server.ThreadingHTTPServer(("", arguments.port), Readiness)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rounds = Rounds(arguments.bucket, "python/" + socket.gethostname())
    stop = threading.Event()
    while True:
        try:
            rounds.once()
            Readiness.ready = True
        except Exception as error:  # any failure: the next round can succeed
            log.error("round failed: %s: %s", type(error).__name__, error)
            Readiness.ready = False
        stop.wait(arguments.every if Readiness.ready else min(arguments.every, 5))


if __name__ == "__main__":
    main()
