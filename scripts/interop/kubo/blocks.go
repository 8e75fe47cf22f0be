package kubo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"dibber/scripts/interop/bed"
)

// blockFeatures are what is shown of blocks.
func blockFeatures() []bed.Feature {
	return []bed.Feature{
		{Name: "we get a file that it added", Run: weGet},
		{Name: "it gets a file that we put", Run: itGets},
		{Name: "names a file as we do", Run: sameNames},
		{Name: "we ask it whether it has a block", Run: weAsk},
		{Name: "we get a file from it and from ours at once", Run: fromBoth},
		{Name: "we find in a hash table that it has a file", Run: weFind},
		{Name: "it finds in a hash table that we have a file", Run: itFinds},
		{Name: "we get a file through its relay, as far as that lets us", Run: throughIts},
	}
}

// fileBytes is the size of a file of several blocks.
const fileBytes = 3<<20 + 12345

// madeFile writes a file of random bytes and returns its path and content.
func madeFile(s *bed.Scene, size int) (path string, data []byte, err error) {
	data = make([]byte, size)
	seed := sha256.Sum256([]byte(s.Dir))
	_, _ = rand.NewChaCha8(seed).Read(data) // never fails
	path = filepath.Join(s.Dir, fmt.Sprintf("file-%d", size))
	return path, data, os.WriteFile(path, data, 0o600)
}

// add adds a file; what it is called is the answer.
func (k *daemon) add(ctx context.Context, data []byte) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "file")
	if err != nil {
		return "", err
	}
	_, err = part.Write(data)
	if err = errors.Join(err, form.Close()); err != nil {
		return "", err
	}
	args := url.Values{"cid-version": {"1"}, "raw-leaves": {"true"}, "chunker": {"size-262144"}, "quieter": {"true"}, "pin": {"false"}}
	answer, err := k.post(ctx, "add", args, &body, form.FormDataContentType())
	if err != nil {
		return "", err
	}
	var added struct{ Hash string }
	return added.Hash, json.Unmarshal(answer, &added)
}

// cat returns the content of a file that it has, or fetches.
func (k *daemon) cat(ctx context.Context, name string) ([]byte, error) {
	return k.post(ctx, "cat", url.Values{"arg": {name}}, nil, "")
}

// post calls a command of its RPC with a body and returns what it answers.
func (k *daemon) post(ctx context.Context, command string, args url.Values, body io.Reader, kind string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, k.api+command+"?"+args.Encode(), body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("kubo %s: %w", command, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("kubo %s: %s: %s", command, response.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}

// gotten is what dibber block get says.
type gotten struct {
	OK      bool `json:"ok"`
	Fetched struct {
		Blocks int `json:"blocks"`
	} `json:"fetched"`
	Peers []struct {
		Peer     string  `json:"peer"`
		Path     *string `json:"path"`
		Received struct {
			Block int `json:"block"`
		} `json:"received"`
	} `json:"peers"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// get gets a file by dibber block get and compares it.
func get(ctx context.Context, s *bed.Scene, name string, want []byte, args ...string) (g gotten, err error) {
	out := filepath.Join(s.Dir, "got")
	err = s.Dibber(ctx, &g, append([]string{"block", "get", name, "-o", out, "--state-dir", filepath.Join(s.Dir, "getter")}, args...)...)
	if err != nil {
		return g, err
	}
	if !g.OK {
		return g, fmt.Errorf("dibber block get: %s", g.Error.Message)
	}
	data, err := os.ReadFile(out)
	if err == nil && !bytes.Equal(data, want) {
		err = errors.New("the file is another one")
	}
	return g, err
}

// put puts a file by dibber block put into the store of a node of ours.
func put(ctx context.Context, s *bed.Scene, path, state string) (string, error) {
	var doc struct {
		OK    bool `json:"ok"`
		Files []struct {
			CID string `json:"cid"`
		} `json:"files"`
	}
	if err := s.Dibber(ctx, &doc, "block", "put", path, "--state-dir", state); err != nil {
		return "", err
	}
	if !doc.OK || len(doc.Files) != 1 {
		return "", errors.New("dibber block put failed")
	}
	return doc.Files[0].CID, nil
}

// serving puts a file and starts a node of ours that serves it, with its store in a folder of its own.
func serving(ctx context.Context, s *bed.Scene, path string, args ...string) (n *bed.Node, name string, err error) {
	state := filepath.Join(s.Dir, "ours")
	if name, err = put(ctx, s, path, state); err != nil {
		return nil, "", err
	}
	n, err = s.Serve(ctx, 1, append([]string{"--blocks", "--autonat", "--blocks-store", filepath.Join(state, "blocks")}, args...)...)
	return n, name, err
}

func weGet(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	_, data, err := madeFile(s, fileBytes)
	if err != nil {
		return "", err
	}
	name, err := k.add(ctx, data)
	if err != nil {
		return "", err
	}
	g, err := get(ctx, s, name, data, "--peer", k.addr("quic-v1"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d blocks", g.Fetched.Blocks), nil
}

func itGets(ctx context.Context, s *bed.Scene) (string, error) {
	path, data, err := madeFile(s, fileBytes)
	if err != nil {
		return "", err
	}
	ours, name, err := serving(ctx, s, path)
	if err != nil {
		return "", err
	}
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	if err := k.connect(ctx, ours.Addr("quic-v1")); err != nil {
		return "", err
	}
	return sameFile(ctx, k, name, data)
}

// sameFile has kubo fetch a file and compares it.
func sameFile(ctx context.Context, k *daemon, name string, want []byte) (string, error) {
	got, err := k.cat(ctx, name)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, want) {
		return "", errors.New("the file is another one")
	}
	return fmt.Sprintf("%d bytes", len(got)), nil
}

func sameNames(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	sizes := []int{0, 1, 256 << 10, 256<<10 + 1, 174 * 256 << 10, 174*256<<10 + 1}
	for _, size := range sizes {
		path, data, err := madeFile(s, size)
		if err != nil {
			return "", err
		}
		its, err := k.add(ctx, data)
		if err != nil {
			return "", err
		}
		ours, err := put(ctx, s, path, filepath.Join(s.Dir, "ours"))
		if err != nil {
			return "", err
		}
		if its != ours {
			return "", fmt.Errorf("a file of %d bytes is %s there and %s here", size, its, ours)
		}
	}
	return fmt.Sprintf("%d sizes, up to %d bytes", len(sizes), sizes[len(sizes)-1]), nil
}

func weAsk(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	_, data, err := madeFile(s, fileBytes)
	if err != nil {
		return "", err
	}
	name, err := k.add(ctx, data)
	if err != nil {
		return "", err
	}
	var doc struct {
		Answers []struct {
			Answer *string `json:"answer"`
		} `json:"answers"`
	}
	const nobodys = "bafkreidon73zkcrwdb5iafqtijxildoonbwnpv7dyd6ef3qdgads2jc4su"
	if err := s.Dibber(ctx, &doc, "block", "have", name, nobodys, "--peer", k.addr("tcp")); err != nil {
		return "", err
	}
	if len(doc.Answers) != 2 || doc.Answers[0].Answer == nil || doc.Answers[1].Answer == nil {
		return "", errors.New("no answer")
	}
	said := *doc.Answers[0].Answer + ", " + *doc.Answers[1].Answer
	if said != "HAVE, DONT_HAVE" {
		return "", errors.New("it said " + said)
	}
	return said, nil
}

func fromBoth(ctx context.Context, s *bed.Scene) (string, error) {
	path, data, err := madeFile(s, 8<<20)
	if err != nil {
		return "", err
	}
	ours, name, err := serving(ctx, s, path)
	if err != nil {
		return "", err
	}
	k, err := start(ctx, s, role{})
	if err != nil {
		return "", err
	}
	if _, err := k.add(ctx, data); err != nil {
		return "", err
	}
	g, err := get(ctx, s, name, data, "--peer", k.addr("quic-v1"), "--peer", ours.Addr("quic-v1"))
	if err != nil {
		return "", err
	}
	from := make(map[string]int)
	for _, p := range g.Peers {
		from[p.Peer] = p.Received.Block
	}
	if from[k.id] == 0 || from[ours.Peer] == 0 {
		return "", fmt.Errorf("%d blocks from kubo, %d from ours", from[k.id], from[ours.Peer])
	}
	return fmt.Sprintf("%d blocks from kubo, %d from ours", from[k.id], from[ours.Peer]), nil
}

func throughIts(ctx context.Context, s *bed.Scene) (string, error) {
	k, err := start(ctx, s, role{serves: true})
	if err != nil {
		return "", err
	}
	path, data, err := madeFile(s, 20000) // its relay carries 128 KiB
	if err != nil {
		return "", err
	}
	ours, name, err := serving(ctx, s, path, "--use-relay", k.addr("quic-v1"))
	if err != nil {
		return "", err
	}
	if err := ours.Event(ctx, "reservation.reserved", &bed.Reservation{}); err != nil {
		return "", err
	}
	peers := filepath.Join(s.Dir, "peers.txt")
	table := fmt.Sprintf("relay %s\nours %s\n", k.addr("quic-v1"), bed.Circuit(k.addr("quic-v1"), ours.Peer))
	if err := os.WriteFile(peers, []byte(table), 0o600); err != nil {
		return "", err
	}
	// Who keeps to the table punches no hole.
	g, err := get(ctx, s, name, data, "--peer", "@ours", "--peers", "@"+peers, "--no-discovery")
	if err != nil {
		return "", err
	}
	for _, p := range g.Peers {
		if p.Peer == ours.Peer && p.Path != nil {
			if *p.Path != "relayed" {
				return "", fmt.Errorf("the path is %s", *p.Path)
			}
			return fmt.Sprintf("%d blocks, relayed", p.Received.Block), nil
		}
	}
	return "", errors.New("not from ours")
}

// tabled starts a node of ours with which the network of a hash table begins, and a kubo that joins it.
func tabled(ctx context.Context, s *bed.Scene) (boot *bed.Node, k *daemon, err error) {
	if boot, err = s.Serve(ctx, 1, "--dht", "--dht-prefix", bed.LANPrefix, "--autonat"); err != nil {
		return nil, nil, err
	}
	if k, err = start(ctx, s, role{table: true}); err != nil {
		return nil, nil, err
	}
	return boot, k, k.connect(ctx, boot.Addr("quic-v1"))
}

func weFind(ctx context.Context, s *bed.Scene) (string, error) {
	boot, k, err := tabled(ctx, s)
	if err != nil {
		return "", err
	}
	_, data, err := madeFile(s, fileBytes)
	if err != nil {
		return "", err
	}
	name, err := k.add(ctx, data)
	if err != nil {
		return "", err
	}
	if _, err := k.post(ctx, "routing/provide", url.Values{"arg": {name}}, nil, ""); err != nil {
		return "", err
	}
	g, err := get(ctx, s, name, data, "--dht", "--dht-prefix", bed.LANPrefix, "--bootstrap", boot.Addr("quic-v1"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d blocks of a provider found", g.Fetched.Blocks), nil
}

func itFinds(ctx context.Context, s *bed.Scene) (string, error) {
	boot, k, err := tabled(ctx, s)
	if err != nil {
		return "", err
	}
	path, data, err := madeFile(s, fileBytes)
	if err != nil {
		return "", err
	}
	ours, name, err := serving(ctx, s, path, "--dht", "--dht-prefix", bed.LANPrefix, "--bootstrap", boot.Addr("quic-v1"))
	if err != nil {
		return "", err
	}
	var provided struct {
		Kept int `json:"kept"`
	}
	for provided.Kept == 0 { // those before it had joined are in vain
		if err := ours.Event(ctx, "blocks.provided", &provided); err != nil {
			return "", err
		}
	}
	return sameFile(ctx, k, name, data)
}
