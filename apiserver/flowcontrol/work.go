package flowcontrol

import (
	"math"
	"net/http"
	"strings"
	"time"

	"hyperkube/apiserver/request"
)

// work is what a request is thought to cost: seats while it runs, and final ones for some time after it, in which the watchers of
// what it wrote are served.
type work struct {
	seats, final int
	after        time.Duration
}

// most is how many seats it takes, from its start to its very end.
func (w work) most() int { return max(w.seats, w.final) }

// Upstream's figures (KEP-1040): a list of a hundred objects is worth a request, ten watchers too, for 5 ms.
const (
	objectsPerSeat  = 100
	watchesPerSeat  = 10
	mostSeats       = 10
	timePerEvent    = 5 * time.Millisecond
	mostSeatsOfTier = 0.15 // of a level's nominal seats
)

// widest is how many seats one request of a level may take.
func widest(nominal int) int {
	return min(mostSeats, max(1, int(math.Ceil(float64(nominal)*mostSeatsOfTier))))
}

// estimateWork says what a request costs in a level where it may take most seats; figures may be nil.
func (c *Controller) estimateWork(r *http.Request, info *request.Info, most int, figures *figures) work {
	if !info.IsResourceRequest || c.config.Load == nil {
		return work{seats: 1}
	}
	switch info.Verb {
	case "list", "watch":
		if info.Verb == "watch" && !strings.Contains(r.URL.RawQuery, "sendInitialEvents=true") {
			return work{seats: 1}
		}
		if info.Name != "" {
			return work{seats: 1} // by a field selector on the name: it is a get
		}
		objects, _ := c.config.Load(info)
		return work{seats: clamp(ceilOf(objects, objectsPerSeat), most)}
	case "create", "update", "patch", "delete":
		if info.Resource == "serviceaccounts" && info.Subresource == "token" {
			return work{seats: 1} // nothing is stored
		}
		_, watchers := c.config.Load(info)
		figures.watched(watchers)
		if watchers < watchesPerSeat {
			return work{seats: 1}
		}
		wanted := ceilOf(watchers, watchesPerSeat)
		final := clamp(wanted, most)
		// Fewer seats than it would need take them longer.
		return work{seats: 1, final: final, after: timePerEvent * time.Duration(wanted) / time.Duration(final)}
	}
	return work{seats: 1}
}

func ceilOf(n, per int) int { return (n + per - 1) / per }

func clamp(n, most int) int { return min(max(n, 1), most) }
