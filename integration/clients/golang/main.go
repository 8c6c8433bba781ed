// Command golang is a program with Google's Go libraries, as a pod runs it. It executes
// the commands on its standard input, and answers each with a line of JSON.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/credentials/idtoken"
	"cloud.google.com/go/compute/metadata"
	"cloud.google.com/go/storage"
	"golang.org/x/oauth2/google"
)

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

func main() {
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answer := map[string]string{}
		value, err := do(strings.Fields(lines.Text()))
		if err != nil {
			answer["error"] = err.Error()
		} else {
			answer["value"] = value
		}
		if err := answers.Encode(answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func do(command []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch command[0] {
	case "project":
		return metadata.ProjectIDWithContext(ctx)
	case "zone":
		return metadata.ZoneWithContext(ctx)
	case "email":
		return metadata.EmailWithContext(ctx, "default")
	case "access":
		found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{cloudPlatform}})
		if err != nil {
			return "", err
		}
		token, err := found.Token(ctx)
		if err != nil {
			return "", err
		}
		return token.Value, nil
	case "access-oauth2":
		source, err := google.DefaultTokenSource(ctx, cloudPlatform)
		if err != nil {
			return "", err
		}
		token, err := source.Token()
		if err != nil {
			return "", err
		}
		return token.AccessToken, nil
	case "id":
		found, err := idtoken.NewCredentials(&idtoken.Options{Audience: command[1]})
		if err != nil {
			return "", err
		}
		token, err := found.Token(ctx)
		if err != nil {
			return "", err
		}
		return token.Value, nil
	case "upload":
		return upload(ctx, command[1], command[2])
	}
	return "", fmt.Errorf("%q is no command", command[0])
}

var client *storage.Client // for the lifetime of the program, as usual

// upload writes an object and returns the content that it then reads.
func upload(ctx context.Context, bucket, name string) (string, error) {
	if client == nil {
		made, err := storage.NewClient(context.Background())
		if err != nil {
			return "", err
		}
		client = made
	}
	object := client.Bucket(bucket).Object(name)
	w := object.NewWriter(ctx)
	if _, err := io.WriteString(w, "content of "+name); err != nil {
		return "", errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	r, err := object.NewReader(ctx)
	if err != nil {
		return "", err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	return string(content), err
}
