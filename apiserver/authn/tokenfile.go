package authn

import (
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"hyperkube/apiserver/request"
)

// tokenFile knows the users of a static token file: CSV lines of token, user, uid and, optionally, "group1,group2". It is
// read once, at the start. Tokens are kept as their hashes, so that looking one up takes no longer the more of it is right.
//
// In Kubernetes: k8s.io/apiserver/pkg/authentication/token/tokenfile.
type tokenFile struct {
	users map[[sha256.Size]byte]request.User
}

func newTokenFile(path string) (*tokenFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("authn: token file: %w", err)
	}
	defer file.Close()
	users, err := parseTokenFile(file)
	if err != nil {
		return nil, fmt.Errorf("authn: token file %s: %w", path, err)
	}
	return &tokenFile{users}, nil
}

func parseTokenFile(r io.Reader) (map[[sha256.Size]byte]request.User, error) {
	reader := csv.NewReader(r)
	reader.FieldsPerRecord = -1
	users := map[[sha256.Size]byte]request.User{}
	for {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return users, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := reader.FieldPos(0)
		if len(fields) < 3 {
			return nil, fmt.Errorf("line %d: want at least 3 columns (token, user name, user uid), found %d", line, len(fields))
		}
		if fields[0] == "" {
			return nil, fmt.Errorf("line %d: the token is empty", line)
		}
		user := request.User{Name: fields[1], UID: fields[2], Authn: "token file"}
		if len(fields) >= 4 && fields[3] != "" {
			user.Groups = strings.Split(fields[3], ",")
		}
		users[sha256.Sum256([]byte(fields[0]))] = user
	}
}

// authenticate returns nil for a token that is not of the file.
func (f *tokenFile) authenticate(token string) *request.User {
	user, ok := f.users[sha256.Sum256([]byte(token))]
	if !ok {
		return nil
	}
	user.Groups = append([]string(nil), user.Groups...)
	return &user
}
