// Copyright The vmcp-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// Era is a revision of MCP before or after the end of sessions.
type Era string

// The newest revision of each era.
const (
	Legacy Era = mcp.ProtocolVersion20251125
	Modern Era = mcp.ProtocolVersion20260728
)

// String is the era's name.
func (e Era) String() string {
	if e == Modern {
		return "modern"
	}
	return "legacy"
}

// Ids have ten digits, so that requests keep their length.
const (
	firstID  = 1_000_000_000
	idDigits = 10
)

// modernMeta is what every request of the newest revision carries (MCP 2026-07-28, _meta).
const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"` + string(Modern) + `","io.modelcontextprotocol/clientCapabilities":{},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"load","version":"1"}}`

// Client is one MCP client: a connection, and in the legacy era a session. One goroutine uses it.
type Client struct {
	era       Era
	conn      *conn
	authority string // host:port
	path      string
	session   string
	id        int
}

// Dial connects to an endpoint, of the form http://host:port/path.
func Dial(endpoint string, era Era) (*Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("the endpoint: %w", err)
	}
	c, err := dial(u.Host)
	if err != nil {
		return nil, err
	}
	return &Client{era: era, conn: c, authority: u.Host, path: u.Path, id: firstID}, nil
}

// Close closes the connection. The session stays.
func (c *Client) Close() { c.conn.close() }

// Another is another client on the same connection, without a session of its own yet. The two take turns.
func (c *Client) Another() *Client {
	another := *c
	another.session = ""
	return &another
}

// Over is the client, its session included, on another client's connection.
func (c *Client) Over(other *Client) *Client {
	over := *c
	over.conn = other.conn
	return &over
}

// Open makes the client ready for calls: in the legacy era it opens a session, in the modern one it asks what there is, as a client
// does, which a connection must not put off for long.
func (c *Client) Open() error {
	if c.era == Modern {
		_, err := c.request("server/discover", "")
		return err
	}
	a, err := c.request("initialize", `"protocolVersion":"`+string(Legacy)+`","capabilities":{},"clientInfo":{"name":"load","version":"1"}`)
	if err != nil {
		return err
	}
	c.session = a.session
	head := c.head(http.MethodPost, "")
	a, err = c.conn.do(message(head, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)))
	if err == nil && a.status != http.StatusAccepted {
		err = a.unexpected()
	}
	if err != nil {
		return fmt.Errorf("initialized: %w", err)
	}
	return nil
}

// End ends the session, if there is one.
func (c *Client) End() error {
	if c.session == "" {
		return nil
	}
	a, err := c.conn.do([]byte(c.head(http.MethodDelete, "") + "Content-Length: 0\r\n\r\n"))
	if err == nil && a.status >= http.StatusMultipleChoices {
		err = a.unexpected()
	}
	if err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	return nil
}

// Listen opens the stream of the session (legacy) and leaves it unread. Nothing else can be done with the client afterwards.
func (c *Client) Listen() error {
	a, _, err := c.conn.begin([]byte(c.head(http.MethodGet, "") + "\r\n"))
	if err == nil && a.status != http.StatusOK {
		err = a.unexpected()
	}
	if err != nil {
		return fmt.Errorf("opening the stream: %w", err)
	}
	return nil
}

// Tools counts the tools that are listed, all pages together. The list is not decoded.
func (c *Client) Tools() (int, error) {
	n, cursor := 0, ""
	for {
		params := ""
		if cursor != "" {
			params = `"cursor":"` + cursor + `"`
		}
		a, err := c.request("tools/list", params)
		if err != nil {
			return n, err
		}
		n += bytes.Count(a.body, []byte(`"inputSchema"`))
		_, rest, more := bytes.Cut(a.body, []byte(`"nextCursor":"`))
		if !more {
			return n, nil
		}
		end := bytes.IndexByte(rest, '"')
		cursor = string(rest[:max(end, 0)])
		if cursor == "" {
			return n, nil
		}
	}
}

// request sends a request with the given members of params and returns the answer to it, which is a result.
func (c *Client) request(method, params string) (answer, error) {
	c.id++
	if c.era == Modern {
		if params != "" {
			params += ","
		}
		params += modernMeta
	}
	id := strconv.Itoa(c.id)
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `}}`
	a, err := c.conn.do(message(c.head(http.MethodPost, method), []byte(body)))
	switch {
	case err != nil:
	case a.status != http.StatusOK || !bytes.Contains(a.body, []byte(`"result"`)) || !bytes.Contains(a.body, []byte(`"id":`+id)):
		err = a.unexpected()
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", method, err)
	}
	return a, nil
}

// head is the request line and the header but for Content-Length and the empty line. An empty method means a request without a body.
func (c *Client) head(verb, method string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nMCP-Protocol-Version: %s\r\n", verb, c.path, c.authority, string(c.era))
	switch verb {
	case http.MethodPost:
		b.WriteString("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n")
	case http.MethodGet:
		b.WriteString("Accept: text/event-stream\r\n")
	}
	if c.session != "" {
		fmt.Fprintf(&b, "Mcp-Session-Id: %s\r\n", c.session)
	}
	if c.era == Modern && method != "" {
		fmt.Fprintf(&b, "Mcp-Method: %s\r\n", method)
	}
	return b.String()
}

func message(head string, body []byte) []byte {
	return fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

var errUnexpected = errors.New("not the answer that was expected")

func (a answer) unexpected() error {
	return fmt.Errorf("%w: status %d, %.300s", errUnexpected, a.status, a.body)
}

// Caller calls one tool, which answers with the text that it is given, again and again.
type Caller struct {
	client  *Client
	request []byte
	// ids are the places of the id in the request: that of JSON-RPC, and the beginning of the text, which makes every call's
	// answer its own.
	ids [2]int
	// text is what the answer has to contain.
	text []byte
}

// Caller makes a caller of a tool with a text of a number of bytes, at least 16. The client has been opened.
func (c *Client) Caller(tool string, size int) *Caller {
	const id, textID = "0000000001", "0000000002"
	text := `"text":"` + textID + strings.Repeat("x", size-idDigits) + `"`
	params := `"name":"` + tool + `","arguments":{` + text + `}`
	head := c.head(http.MethodPost, "tools/call")
	if c.era == Modern {
		params += "," + modernMeta
		head += "Mcp-Name: " + tool + "\r\n"
	}
	body := `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{` + params + `}}`
	request := message(head, []byte(body))
	return &Caller{
		client: c, request: request, text: []byte(text),
		ids: [2]int{bytes.Index(request, []byte(id)), bytes.Index(request, []byte(textID))},
	}
}

// Call calls the tool once. It is an error unless the answer has the call's id and its text.
func (c *Caller) Call() error {
	c.client.id++
	var digits [idDigits]byte
	id := strconv.AppendInt(digits[:0], int64(c.client.id), 10)
	for _, at := range c.ids {
		copy(c.request[at:], id)
	}
	copy(c.text[len(`"text":"`):], id)
	a, err := c.client.conn.do(c.request)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || !hasID(a.body, id) || !bytes.Contains(a.body, c.text) {
		return a.unexpected()
	}
	return nil
}

// hasID says whether a message has the id. Where a server put a blank after the colon it is looked for the slow way.
func hasID(body, id []byte) bool {
	for rest := body; ; {
		at := bytes.Index(rest, id)
		if at < 0 {
			return false
		}
		if bytes.HasSuffix(bytes.TrimRight(rest[:at], " "), []byte(`"id":`)) {
			return true
		}
		rest = rest[at+len(id):]
	}
}
