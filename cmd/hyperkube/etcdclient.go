package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"hyperkube/component"
	"hyperkube/pki"
)

const etcdUsage = "usage: hyperkube etcd get|ls|watch PREFIX | env  [--data-dir DIR]"

// runEtcdClient makes the store readable (S0-03, R22):
//
//	etcd ls [PREFIX]      keys below PREFIX, which is /registry/ when left out
//	etcd get KEY|PREFIX   key, revision and value of each, JSON indented
//	etcd watch [PREFIX]   changes as they happen
//	etcd env              the environment with which stock etcdctl works
func runEtcdClient(ctx context.Context, args []string) error {
	dataDir, rest, err := dataDirFlag(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || len(rest) > 2 {
		return &component.UsageError{Err: errors.New(etcdUsage)}
	}
	verbs := map[string]func(context.Context, *clientv3.Client, string) error{"ls": etcdList, "get": etcdGet, "watch": etcdWatch}
	verb := verbs[rest[0]]
	if verb == nil && rest[0] != "env" {
		return &component.UsageError{Err: fmt.Errorf("unknown command %q; %s", rest[0], etcdUsage)}
	}
	cluster, err := pki.ReadCluster(dataDir)
	if err != nil {
		return fmt.Errorf("no cluster in %s: start `hyperkube all` or `hyperkube etcd` there first (%w)", dataDir, err)
	}
	dir, err := pki.Open(dataDir, *cluster)
	if err != nil {
		return err
	}
	pair, err := dir.ClientCert("etcd-client", "etcd-client")
	if err != nil {
		return err
	}
	if rest[0] == "env" {
		fmt.Printf("export ETCDCTL_API=3\nexport ETCDCTL_ENDPOINTS=%s\nexport ETCDCTL_CACERT=%s\nexport ETCDCTL_CERT=%s\nexport ETCDCTL_KEY=%s\n",
			cluster.EtcdURL(), dir.CAFile(), pair.CertFile, pair.KeyFile)
		return nil
	}
	client, err := etcdClient(cluster.EtcdURL(), dir.CAFile(), pair)
	if err != nil {
		return err
	}
	defer client.Close()
	prefix := "/registry/"
	if len(rest) == 2 {
		prefix = rest[1]
	}
	return verb(ctx, client, prefix)
}

func etcdClient(endpoint, caFile string, pair pki.Pair) (*clientv3.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: 3 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}},
	})
}

func etcdList(ctx context.Context, client *clientv3.Client, prefix string) error {
	response, err := etcdRead(ctx, client, prefix, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	for _, kv := range response.Kvs {
		fmt.Println(string(kv.Key))
	}
	return nil
}

func etcdGet(ctx context.Context, client *clientv3.Client, prefix string) error {
	response, err := etcdRead(ctx, client, prefix)
	if err != nil {
		return err
	}
	if len(response.Kvs) == 0 {
		return fmt.Errorf("no key begins with %s; `hyperkube etcd ls` lists them", prefix)
	}
	for _, kv := range response.Kvs {
		// Keys and revisions go to stderr, so that `… get KEY | jq .kind` works.
		fmt.Fprintf(os.Stderr, "%s  revision %d\n", kv.Key, kv.ModRevision)
		fmt.Println(readable(kv.Value))
	}
	return nil
}

func etcdRead(ctx context.Context, client *clientv3.Client, prefix string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	options = append(options, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
	response, err := client.Get(ctx, prefix, options...)
	if err != nil {
		return nil, fmt.Errorf("etcd at %s does not answer: start it with `hyperkube all` or `hyperkube etcd` (%w)", client.Endpoints()[0], err)
	}
	return response, nil
}

func etcdWatch(ctx context.Context, client *clientv3.Client, prefix string) error {
	for response := range client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix()) {
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			fmt.Printf("%s %s revision %d\n", event.Type, event.Kv.Key, event.Kv.ModRevision)
			if len(event.Kv.Value) > 0 {
				fmt.Println(readable(event.Kv.Value))
			}
		}
	}
	return nil
}

// readable indents JSON, and turns what was stored as protobuf into JSON first.
func readable(value []byte) string {
	if strings.HasPrefix(string(value), "k8s\x00") {
		object, _, err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Decode(value, nil, nil)
		if err != nil {
			return fmt.Sprintf("%q", value)
		}
		return indented(object)
	}
	var parsed any
	if err := json.Unmarshal(value, &parsed); err != nil {
		return string(value)
	}
	return indented(parsed)
}

func indented(value any) string {
	if object, ok := value.(runtime.Object); ok {
		if kinds, _, err := scheme.Scheme.ObjectKinds(object); err == nil && len(kinds) > 0 {
			object.GetObjectKind().SetGroupVersionKind(kinds[0])
		}
	}
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(data)
}
