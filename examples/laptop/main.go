// Command laptop prints the identity that Google sees. It has no key and no setting for
// its identity, and runs unchanged in a cluster.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/oauth2/google"
)

func main() {
	email, err := identity(cmp.Or(os.Getenv("TOKENINFO"), "https://oauth2.googleapis.com/tokeninfo"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Go:", email)
}

// identity returns the e-mail address of the program's token, from Google's tokeninfo.
func identity(tokenInfo string) (string, error) {
	credentials, err := google.FindDefaultCredentials(context.Background(), "https://www.googleapis.com/auth/userinfo.email")
	if err != nil {
		return "", fmt.Errorf("find credentials: %w", err)
	}
	token, err := credentials.TokenSource.Token()
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	client := &http.Client{Timeout: 20 * time.Second}
	response, err := client.PostForm(tokenInfo, url.Values{"access_token": {token.AccessToken}})
	if err != nil {
		return "", fmt.Errorf("request tokeninfo: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var info struct{ Email string }
	if err := json.NewDecoder(response.Body).Decode(&info); err != nil || info.Email == "" {
		return "", fmt.Errorf("%s returned no e-mail address: %s, %v", tokenInfo, response.Status, err)
	}
	return info.Email, nil
}
