package flowcontrol

import (
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
	// Exempt tells requests that take no seat: those that stay open, but for watches, which take one until they have started.
	Exempt func(info *request.Info, r *http.Request) bool
	// Load says how many objects there are of the resource that a request is for, and how many watchers would see its write. Default:
	// every request takes one seat.
	Load func(info *request.Info) (objects, watchers int)
	// Ready says that the objects can be read; until then requests are let in as in every cluster. Default: from the first.
	Ready func() bool
	// WriteError answers a refused request.
	WriteError func(w http.ResponseWriter, r *http.Request, err error)
	// Clock default: the real one.
	Clock   clock.WithTicker
	Metrics prometheus.Registerer
}

// refreshInterval is how often a request looks whether the objects have changed.
const refreshInterval = time.Second

// Controller lets requests in.
type Controller struct {
	config  Config
	metrics *metrics

	current atomic.Pointer[settings]
	mu      sync.Mutex           // of who makes the next settings, and of what follows
	sets    map[string]*queueSet // by level; they outlive settings
	// limits and borrowing are of the same levels; fairPart is what each got of what it wanted.
	limits    map[string]limits
	borrowing map[string]*borrowing
	fairPart  float64
}

// settings are what the objects say at one time; never changed.
type settings struct {
	made    time.Time
	schemas []*schema
	levels  map[string]*level
}

type schema struct {
	*flowcontrolv1.FlowSchema
	level   *level // nil: it dangles
	figures *figures
}

type level struct {
	*flowcontrolv1.PriorityLevelConfiguration
	queues *queueSet
	widest int // how many seats one request may take
}

func (l *level) isExempt() bool { return l.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt }

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
	c := &Controller{config: cfg, sets: map[string]*queueSet{}, limits: map[string]limits{}, borrowing: map[string]*borrowing{}}
	c.metrics = newMetrics(cfg.Metrics, c.eachLimit)
	return c
}

// eachLimit shows the limits of every level, for the metrics.
func (c *Controller) eachLimit(show func(name string, l limits, b borrowing)) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, l := range c.limits {
		state := borrowing{}
		if known := c.borrowing[name]; known != nil {
			state = *known
		}
		show(name, l, state)
	}
	return c.fairPart
}

// Handler is next, behind the queues. It stands behind authentication, whose user it shares by:
//
//	Step 1: find the schema and the level, and what the request costs.
//	Step 2: wait for the seats, or be refused.
//	Step 3: run, and give the seats back: of a watch, when it has started.
func (c *Controller) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, user := request.InfoFrom(r.Context()), request.UserFrom(r.Context())
		if info.Verb != "watch" && c.config.Exempt(info, r) {
			next.ServeHTTP(w, r)
			return
		}
		// Step 1
		schema := c.settings().classify(user, info)
		level, figures := schema.level, schema.figures
		w.Header()[headerSchema] = []string{string(schema.UID)}
		w.Header()[headerLevel] = []string{string(level.UID)}
		flow, distinguisher := flowOf(schema.FlowSchema, user, info)
		a := asked{
			work: c.estimateWork(r, info, level.widest, figures), flow: flow, distinguisher: distinguisher, limit: c.config.MaxWait,
			schema: schema.Name, user: user, info: info, figures: figures,
		}
		if level.isExempt() {
			a.final, a.after = 0, 0 // nobody waits for what it leaves to do: no timer is worth it
		}
		// Step 2
		began := c.config.Clock.Now()
		done, refused := level.queues.wait(r.Context(), a)
		seated := c.config.Clock.Now()
		info.Waited, info.Terminated = seated.Sub(began), refused != ""
		if refused != "" {
			figures.rejected.WithLabelValues(refused).Inc()
			figures.refusedAfter.Observe(seated.Sub(began).Seconds())
			w.Header().Set("Retry-After", "1")
			c.config.WriteError(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
			return
		}
		figures.dispatched.Inc()
		figures.waited.Observe(seated.Sub(began).Seconds())
		figures.seats.Observe(float64(a.most()))
		// Step 3
		if info.Verb != "watch" {
			defer func() {
				done()
				figures.ran.Observe(c.config.Clock.Since(seated).Seconds())
			}()
			next.ServeHTTP(w, r)
			return
		}
		info.Started = sync.OnceFunc(func() {
			done()
			figures.ranWatch.Observe(c.config.Clock.Since(seated).Seconds())
		})
		defer info.Started()
		next.ServeHTTP(w, r)
	})
}

// The names of the headers in the form in which net/http keeps them.
var (
	headerSchema = http.CanonicalHeaderKey(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID)
	headerLevel  = http.CanonicalHeaderKey(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID)
)

// flowOf tells the flows of a schema apart: by a hash, and by what it is of.
func flowOf(schema *flowcontrolv1.FlowSchema, user *request.User, info *request.Info) (hash uint64, distinguisher string) {
	if method := schema.Spec.DistinguisherMethod; method != nil {
		switch method.Type {
		case flowcontrolv1.FlowDistinguisherMethodByUserType:
			distinguisher = user.Name
		case flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
			distinguisher = info.Namespace
		}
	}
	return fnv1a(fnv1a(fnvOffset, schema.Name)*fnvPrime, distinguisher), distinguisher
}

// FNV-1a of strings: hash/fnv wants bytes, and an allocation for each.
const fnvOffset, fnvPrime = 14695981039346656037, 1099511628211

func fnv1a(hash uint64, text string) uint64 {
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * fnvPrime
	}
	return hash
}

// classify never fails: catch-all matches everybody.
func (s *settings) classify(user *request.User, info *request.Info) *schema {
	var last *schema
	for _, schema := range s.schemas {
		if schema.level == nil {
			continue // dangling
		}
		last = schema
		if matches(schema.FlowSchema, user, info) {
			return schema
		}
	}
	return last
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
	s := &settings{made: now, levels: map[string]*level{}}
	shares := 0.0
	levels = mandatoryLevels(levels)
	for _, l := range levels {
		shares += float64(sharesOf(l))
	}
	for _, l := range levels {
		s.levels[l.Name] = c.levelOf(l, limitsOf(l, c.config.TotalConcurrency, shares))
	}
	for _, each := range sorted(mandatorySchemas(schemas)) {
		level := s.levels[each.Spec.PriorityLevelConfiguration.Name]
		made := &schema{FlowSchema: each, level: level}
		if level != nil {
			made.figures = c.metrics.of(level.Name, each.Name)
		}
		s.schemas = append(s.schemas, made)
	}
	c.forget(s.levels)
	return s
}

// forget drops the queues of levels that are gone, once nobody is in them.
func (c *Controller) forget(levels map[string]*level) {
	for name, set := range c.sets {
		if levels[name] != nil {
			continue
		}
		delete(c.limits, name)
		delete(c.borrowing, name)
		if executing, waiting := set.load(); executing+waiting == 0 {
			delete(c.sets, name)
		}
	}
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

// levelOf gives a level its queues and its part of all seats. What it borrowed or lent stays until the next drawing, unless its
// share was changed.
func (c *Controller) levelOf(l *flowcontrolv1.PriorityLevelConfiguration, wanted limits) *level {
	made := &level{PriorityLevelConfiguration: l, widest: widest(wanted.nominal)}
	set := c.sets[l.Name]
	if set == nil {
		set = &queueSet{clock: c.config.Clock}
		c.sets[l.Name] = set
	}
	made.queues = set
	set.letAll(made.isExempt() || l.Spec.Limited == nil)
	if had, ok := c.limits[l.Name]; ok && had.nominal == wanted.nominal && had.lower == wanted.lower && had.upper == wanted.upper {
		wanted.current = had.current
	}
	c.limits[l.Name] = wanted
	if set.exempt {
		made.widest = mostSeats
		return made
	}
	var queuing *flowcontrolv1.QueuingConfiguration
	if l.Spec.Limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue {
		queuing = l.Spec.Limited.LimitResponse.Queuing
	}
	set.configure(max(wanted.current, 1), queuing)
	return made
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
