package runtime

import (
	"context"
	"math"
	goruntime "runtime"
	"sync"
	"sync/atomic"
)

// parallelism is upstream's bound; more workers than processors only cost.
const parallelism = 16

// serialBelow is the number of pieces under which starting goroutines costs more
// than the work: a filter or score of one node takes well under a microsecond.
const serialBelow = 64

// Until calls doPiece for 0..pieces-1, in chunks on several goroutines, until all
// are done or ctx is. Pieces already begun are finished.
func Until(ctx context.Context, pieces int, doPiece func(int)) {
	workers := min(parallelism, goruntime.GOMAXPROCS(0), pieces)
	if pieces < serialBelow || workers < 2 {
		for i := 0; i < pieces && ctx.Err() == nil; i++ {
			doPiece(i)
		}
		return
	}
	// Chunks of about the square root: large enough that the shared counter is
	// cheap, small enough that a cancel comes through and workers end together.
	chunk := int(math.Sqrt(float64(pieces)))
	chunk = max(1, min(chunk, pieces/workers+1))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				end := int(next.Add(int64(chunk)))
				start := end - chunk
				if start >= pieces {
					return
				}
				for i := start; i < min(end, pieces); i++ {
					doPiece(i)
				}
			}
		})
	}
	wg.Wait()
}
