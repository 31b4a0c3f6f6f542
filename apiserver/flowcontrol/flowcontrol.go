package flowcontrol

import (
	"hash/fnv"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"hyperkube/api/flowcontrol/bootstrap"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Config is what flow control needs.
type Config struct {
	FlowSchemas    lister.Lister[*flowcontrolv1.FlowSchema]
	PriorityLevels lister.Lister[*flowcontrolv1.PriorityLevelConfiguration]
	// TotalConcurrency is how many requests run at once, all limited levels together. Default 600.
	TotalConcurrency int
	// MaxWait is how long a request may wait for its seat. Default 15 s.
	MaxWait time.Duration
	// Exempt tells requests that take no seat: those that stay open.
	Exempt func(info *request.Info, r *http.Request) bool
	// Ready says that the objects can be read; until then requests are let in as in every cluster. Default: from the first.
	Ready func() bool
	// WriteError answers a refused request.
	WriteError func(w http.ResponseWriter, r *http.Request, err error)
	// Clock default: the real one.
	Clock   clock.PassiveClock
	Metrics prometheus.Registerer
}

// refreshInterval is how often a request looks whether the objects have changed.
const refreshInterval = time.Second

// Controller lets requests in.
type Controller struct {
	config  Config
	metrics *metrics

	current atomic.Pointer[settings]
	mu      sync.Mutex           // of who makes the next settings
	sets    map[string]*queueSet // by level; they outlive settings
}

// settings are what the objects say at one time; never changed.
type settings struct {
	made    time.Time
	schemas []*flowcontrolv1.FlowSchema
	levels  map[string]*level
}

type level struct {
	*flowcontrolv1.PriorityLevelConfiguration
	queues *queueSet // nil: exempt
}

// New makes a Controller.
func New(cfg Config) *Controller {
	if cfg.TotalConcurrency == 0 {
		cfg.TotalConcurrency = 600
	}
	if cfg.Ready == nil {
		cfg.Ready = func() bool { return true }
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = 15 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	return &Controller{config: cfg, metrics: newMetrics(cfg.Metrics), sets: map[string]*queueSet{}}
}

// Handler is next, behind the queues. It stands behind authentication, whose user it shares by:
//
//	Step 1: find the schema and the level.
//	Step 2: wait for a seat, or be refused.
//	Step 3: run, and give the seat back.
func (c *Controller) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, user := request.InfoFrom(r.Context()), request.UserFrom(r.Context())
		if c.config.Exempt(info, r) {
			next.ServeHTTP(w, r)
			return
		}
		// Step 1
		schema, level := c.settings().classify(user, info)
		w.Header().Set(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID, string(schema.UID))
		w.Header().Set(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID, string(level.UID))
		if level.queues == nil {
			next.ServeHTTP(w, r)
			return
		}
		// Step 2
		began := c.config.Clock.Now()
		done, refused := level.queues.wait(r.Context(), flowOf(schema, user, info), c.config.MaxWait)
		if refused != "" {
			c.metrics.rejected.WithLabelValues(level.Name, schema.Name, refused).Inc()
			w.Header().Set("Retry-After", "1")
			c.config.WriteError(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
			return
		}
		// Step 3
		defer done()
		c.metrics.dispatched.WithLabelValues(level.Name, schema.Name).Inc()
		c.metrics.waited.WithLabelValues(level.Name, schema.Name).Observe(c.config.Clock.Since(began).Seconds())
		next.ServeHTTP(w, r)
	})
}

// flowOf tells the flows of a schema apart.
func flowOf(schema *flowcontrolv1.FlowSchema, user *request.User, info *request.Info) uint64 {
	hash := fnv.New64a()
	hash.Write([]byte(schema.Name))
	hash.Write([]byte{0})
	if method := schema.Spec.DistinguisherMethod; method != nil {
		switch method.Type {
		case flowcontrolv1.FlowDistinguisherMethodByUserType:
			hash.Write([]byte(user.Name))
		case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
			hash.Write([]byte(info.Namespace))
		}
	}
	return hash.Sum64()
}

// classify never fails: catch-all matches everybody.
func (s *settings) classify(user *request.User, info *request.Info) (*flowcontrolv1.FlowSchema, *level) {
	var last *flowcontrolv1.FlowSchema
	for _, schema := range s.schemas {
		level := s.levels[schema.Spec.PriorityLevelConfiguration.Name]
		if level == nil {
			continue // dangling
		}
		last = schema
		if matches(schema, user, info) {
			return schema, level
		}
	}
	return last, s.levels[last.Spec.PriorityLevelConfiguration.Name]
}

// settings are those of a second ago at the oldest.
func (c *Controller) settings() *settings {
	now := c.config.Clock.Now()
	if s := c.current.Load(); s != nil && now.Sub(s.made) < refreshInterval {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.current.Load(); s != nil && now.Sub(s.made) < refreshInterval {
		return s
	}
	s := c.read(now)
	c.current.Store(s)
	return s
}

// read makes settings of the objects; what is mandatory and missing, or not yet there at the first start, is as every
// cluster has it.
func (c *Controller) read(now time.Time) *settings {
	schemas, levels := c.objects()
	if len(schemas) == 0 {
		schemas = bootstrap.FlowSchemas()
	}
	if len(levels) == 0 {
		levels = bootstrap.PriorityLevelConfigurations()
	}
	s := &settings{made: now, schemas: sorted(mandatorySchemas(schemas)), levels: map[string]*level{}}
	shares := 0.0
	levels = mandatoryLevels(levels)
	for _, l := range levels {
		shares += float64(sharesOf(l))
	}
	for _, l := range levels {
		s.levels[l.Name] = &level{l, c.queuesOf(l, shares)}
	}
	return s
}

// objects are those of the store; none while it cannot be read: to wait for it would hold up the very requests that ask
// how the server is.
func (c *Controller) objects() ([]*flowcontrolv1.FlowSchema, []*flowcontrolv1.PriorityLevelConfiguration) {
	if !c.config.Ready() {
		return nil, nil
	}
	schemas, schemasErr := c.config.FlowSchemas.List("")
	levels, levelsErr := c.config.PriorityLevels.List("")
	if schemasErr != nil || levelsErr != nil {
		return nil, nil
	}
	return schemas, levels
}

// queuesOf gives a level its part of all seats: at least one.
func (c *Controller) queuesOf(l *flowcontrolv1.PriorityLevelConfiguration, shares float64) *queueSet {
	if l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt || l.Spec.Limited == nil {
		return nil
	}
	set := c.sets[l.Name]
	if set == nil {
		set = &queueSet{clock: c.config.Clock}
		c.sets[l.Name] = set
		c.metrics.watch(l.Name, set)
	}
	seats := int(math.Ceil(float64(c.config.TotalConcurrency) * float64(sharesOf(l)) / max(shares, 1)))
	var queuing *flowcontrolv1.QueuingConfiguration
	if l.Spec.Limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue {
		queuing = l.Spec.Limited.LimitResponse.Queuing
	}
	set.configure(max(seats, 1), queuing)
	return set
}

func sharesOf(l *flowcontrolv1.PriorityLevelConfiguration) int32 {
	switch {
	case l.Spec.Limited != nil:
		return ptr.Deref(l.Spec.Limited.NominalConcurrencyShares, 30)
	case l.Spec.Exempt != nil:
		return ptr.Deref(l.Spec.Exempt.NominalConcurrencyShares, 0)
	}
	return 0
}

func mandatorySchemas(present []*flowcontrolv1.FlowSchema) []*flowcontrolv1.FlowSchema {
	names := map[string]bool{}
	for _, s := range present {
		names[s.Name] = true
	}
	for _, s := range bootstrap.FlowSchemas() {
		if bootstrap.Mandatory(s.Name) && !names[s.Name] {
			present = append(present, s)
		}
	}
	return present
}

func mandatoryLevels(present []*flowcontrolv1.PriorityLevelConfiguration) []*flowcontrolv1.PriorityLevelConfiguration {
	names := map[string]bool{}
	for _, l := range present {
		names[l.Name] = true
	}
	for _, l := range bootstrap.PriorityLevelConfigurations() {
		if bootstrap.Mandatory(l.Name) && !names[l.Name] {
			present = append(present, l)
		}
	}
	return present
}
