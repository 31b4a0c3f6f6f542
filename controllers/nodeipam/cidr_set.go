package nodeipam

import (
	"errors"
	"math/big"
	"net/netip"
)

// maxShareBits bounds the number of shares, and so the bitmap.
const maxShareBits = 16

var errCIDRRangeNoCIDRsRemaining = errors.New("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")

// cidrSet divides a range into equal shares and knows which are taken.
type cidrSet struct {
	cluster   netip.Prefix
	shareBits int
	count     int
	taken     big.Int
	// next is where the search begins: behind the last share given, so that the one
	// of a node that just left is not reused while packets to it may be under way.
	next int
}

func newCIDRSet(cluster netip.Prefix, shareBits int) *cidrSet {
	return &cidrSet{cluster: cluster, shareBits: shareBits, count: 1 << (shareBits - cluster.Bits())}
}

func (s *cidrSet) allocateNext() (netip.Prefix, error) {
	for i := range s.count {
		index := (s.next + i) % s.count
		if s.taken.Bit(index) == 0 {
			s.taken.SetBit(&s.taken, index, 1)
			s.next = (index + 1) % s.count
			return s.share(index), nil
		}
	}
	return netip.Prefix{}, errCIDRRangeNoCIDRsRemaining
}

// occupy marks a share as taken; false when the range is not one of ours.
func (s *cidrSet) occupy(cidr netip.Prefix) bool {
	index, ok := s.index(cidr)
	if ok {
		s.taken.SetBit(&s.taken, index, 1)
	}
	return ok
}

func (s *cidrSet) release(cidr netip.Prefix) {
	if index, ok := s.index(cidr); ok {
		s.taken.SetBit(&s.taken, index, 0)
	}
}

// share is the index-th range: the index stands in the address between the
// cluster's bits and the share's.
func (s *cidrSet) share(index int) netip.Prefix {
	base := s.cluster.Addr()
	number := new(big.Int).SetBytes(base.AsSlice())
	number.Add(number, new(big.Int).Lsh(big.NewInt(int64(index)), uint(base.BitLen()-s.shareBits)))
	addr, _ := netip.AddrFromSlice(number.FillBytes(make([]byte, base.BitLen()/8)))
	return netip.PrefixFrom(addr, s.shareBits)
}

func (s *cidrSet) index(cidr netip.Prefix) (int, bool) {
	if cidr.Bits() != s.shareBits || !s.cluster.Contains(cidr.Addr()) {
		return 0, false
	}
	base := new(big.Int).SetBytes(s.cluster.Addr().AsSlice())
	number := new(big.Int).SetBytes(cidr.Masked().Addr().AsSlice())
	number.Sub(number, base).Rsh(number, uint(cidr.Addr().BitLen()-s.shareBits))
	return int(number.Int64()), true
}
