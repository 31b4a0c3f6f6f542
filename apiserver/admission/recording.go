package admission

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// described is the chain as the record shows it: once for most kinds, whose objects no plugin
// changes, and once for each of the others, with the fields that each plugin sets.
type described struct {
	plain    []flow.Plugin
	changing map[schema.GroupResource][]flow.Plugin
}

func (c *Chain) describe() {
	c.described.changing = map[schema.GroupResource][]flow.Plugin{}
	for i := range c.Plugins {
		for resource := range c.Plugins[i].Sets {
			c.described.changing[resource] = nil
		}
		c.described.plain = append(c.described.plain, flow.Plugin{Name: c.Plugins[i].Name})
	}
	for resource := range c.described.changing {
		for i := range c.Plugins {
			p := &c.Plugins[i]
			c.described.changing[resource] = append(c.described.changing[resource], flow.Plugin{Name: p.Name, Sets: p.Sets[resource], Given: p.Given})
		}
	}
}

// of returns the plugins as the record of a says them, and whether one of them may change the object.
// To a subresource (binding, status) comes an object of which something else is stored.
func (c *Chain) of(a *request.AdmissionAttributes) (plugins []flow.Plugin, changing bool) {
	c.once.Do(c.describe)
	if a.Subresource == "" {
		if plugins, changing = c.described.changing[a.Resource.GroupResource()]; changing {
			return plugins, true
		}
	}
	return c.described.plain, false
}

// recording notes which plugins are asked, and what they answer: two bits a plugin. Without a record
// of the request it does nothing.
type recording struct {
	request *flow.Request
	began   time.Time
	noted   flow.Admission
}

// record begins to note what the plugins of the chain do.
func (c *Chain) record(q *flow.Request, a *request.AdmissionAttributes) (r recording) {
	if q == nil {
		return r
	}
	r.request, r.began = q, time.Now()
	plugins, changing := c.of(a)
	r.noted.Plugins = plugins
	if changing {
		r.noted.Object = a.Object
	}
	return r
}

// asked notes that the i-th plugin has been asked, and answered err.
func (r *recording) asked(i int, err error) {
	r.noted.Asked |= 1 << i
	if err != nil {
		r.noted.Refused |= 1 << i
	}
}

// admitted hands what was noted of Admit to the record of the request.
func (r *recording) admitted() {
	if r.request != nil {
		r.noted.Took = time.Since(r.began)
		r.request.Admitted(r.noted)
	}
}

// judged does so of Validate.
func (r *recording) judged() {
	if r.request != nil {
		r.request.Judged(r.noted.Plugins, r.noted.Asked, r.noted.Refused, time.Since(r.began))
	}
}
