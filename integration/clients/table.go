package clients

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// tableFile is the file that these tests generate.
const tableFile = "../../docs/clients.md"

// introduction is the text above the table.
const introduction = `# Clients

Google's own clients and programs that use them, unmodified, and the requests of each to the metadata server. The tests
in ` + "`integration/clients`" + ` write this table and compare it at each run:

    cd integration/clients
    go test ./...            # needs root; a client without its toolchain is skipped, with the reason
    go test ./... -update    # writes this file

Each client is installed by its own package manager from a lock file, once. It runs as in a pod: a network namespace
in which 169.254.169.254 is the server, the cluster's DNS resolves ` + "`metadata.google.internal`" + `, Cloud Storage and an
image registry accept only tokens of the right Google service account with the right scopes, and nothing else can be
reached. The client has no setting for the metadata server.

The situations:

- **serve**: a pod that the node's daemon knows, in federation mode. The table lists the requests of this situation.
- **standalone**: the server without a cluster.
- **early**: the client starts as soon as the daemon listens; the API server has no address of the pod until a request of
  the client waits for it.
- **renewal**: two uploads; at the second the first one's token has expired. A library does both in one process, a
  program that ends after each upload in two.

Paths are below ` + "`/computeMetadata/v1/`" + `, except ` + "`/`" + `; ` + "`EMAIL`" + ` is the Google service account's, and scopes are without
` + "`https://www.googleapis.com/auth/`" + `. Each request is listed once, in the order of the first answers.

`

// row is the result of one client.
type row struct {
	name       string
	version    string
	did        string
	requests   []string
	situations []string // in which it worked
}

const header = "| client | version | operations | requests | works |\n|---|---|---|---|---|\n"

func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", r.name, strings.ReplaceAll(r.version, ", ", "<br>"), r.did,
		"`"+strings.Join(r.requests, "`<br>`")+"`", strings.Join(r.situations, ", "))
}

// cells of a row of the table.
const (
	nameCell = iota
	versionCell
	didCell
	requestsCell
	worksCell
	numberOfCells
)

func cells(line string) []string {
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) != numberOfCells+2 {
		return nil
	}
	parts = parts[1 : numberOfCells+1]
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// committed are the rows of a table file by their clients' names.
func committed(path string) (map[string]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, found := strings.CutPrefix(string(content), introduction+header)
	if !found {
		return nil, fmt.Errorf("%s does not begin as the tests would write it; run: go test ./... -update", path)
	}
	return rowsOf(rest), nil
}

func rowsOf(table string) map[string]string {
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if c := cells(line); c != nil {
			rows[c[nameCell]] = line
		}
	}
	return rows
}

// compare returns the differences of a row to a committed one, or an empty text. The order
// of requests does not matter: some are concurrent.
func (r row) compare(line string, anyVersion bool) string {
	want, got := cells(line), cells(r.String())
	if want == nil {
		return r.name + " has no row"
	}
	for _, c := range [][]string{want, got} {
		requests := strings.Split(c[requestsCell], "<br>")
		slices.Sort(requests)
		c[requestsCell] = strings.Join(requests, "\n    ")
		if anyVersion {
			c[versionCell] = ""
		}
	}
	var differs strings.Builder
	for i := range numberOfCells {
		if want[i] != got[i] {
			fmt.Fprintf(&differs, "%s:\n  in the file:\n    %s\n  now:\n    %s\n", r.name, want[i], got[i])
		}
	}
	return differs.String()
}

// write rewrites the table: the rows of this run, and the committed rows of other clients.
// A row without a difference stays as it is.
func write(path string, order []client, rows map[string]row) error {
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	old := rowsOf(string(content))
	var b strings.Builder
	b.WriteString(introduction + header)
	for _, c := range order {
		line := old[c.name]
		if r, ran := rows[c.name]; ran && r.compare(line, false) != "" {
			line = r.String()
		}
		b.WriteString(line)
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
