"""A program with Google's Python libraries, as a pod runs one.

It does what the lines of its input say, and answers each with a line of JSON.
"""

import json
import sys

import google.auth
import google.auth.transport.requests
import google.oauth2.id_token
from google.cloud import storage

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def project():
    return google.auth.default()[1]


def email():
    credentials, _ = google.auth.default(scopes=SCOPES)
    credentials.refresh(google.auth.transport.requests.Request())
    return credentials.service_account_email


def access():
    credentials, _ = google.auth.default(scopes=SCOPES)
    credentials.refresh(google.auth.transport.requests.Request())
    return credentials.token


def id(audience):
    request = google.auth.transport.requests.Request()
    return google.oauth2.id_token.fetch_id_token(request, audience)


client = None  # for the life of the program, as is usual


def upload(bucket, name):
    global client
    client = client or storage.Client()
    blob = client.bucket(bucket).blob(name)
    blob.upload_from_string("content of " + name)
    return client.bucket(bucket).blob(name).download_as_text()


for line in sys.stdin:
    command, *arguments = line.split()
    try:
        answer = {"value": globals()[command](*arguments)}
    except Exception as error:  # whatever it is, it is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
