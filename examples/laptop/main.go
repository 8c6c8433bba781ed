// Command laptop says who Google takes this program for. It has no key and no
// setting of its identity: in a cluster it runs as it is.
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
	email, err := whoAmI(cmp.Or(os.Getenv("TOKENINFO"), "https://oauth2.googleapis.com/tokeninfo"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Go:", email)
}

// whoAmI asks Google's tokeninfo whose token the program gets.
func whoAmI(tokenInfo string) (string, error) {
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
		return "", fmt.Errorf("ask whose the token is: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var info struct{ Email string }
	if err := json.NewDecoder(response.Body).Decode(&info); err != nil || info.Email == "" {
		return "", fmt.Errorf("%s does not say whose the token is: %s, %v", tokenInfo, response.Status, err)
	}
	return info.Email, nil
}
