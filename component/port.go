package component

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ListenError says of a port that cannot be listened on who has it, where that can be known (R03).
func ListenError(address string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	_, text, splitErr := net.SplitHostPort(address)
	port, convErr := strconv.Atoi(text)
	if holder := PortHolder(port); splitErr == nil && convErr == nil && holder != "" {
		return fmt.Errorf("%w: %s has it: stop that, or choose another port", err, holder)
	}
	return fmt.Errorf("%w: stop the program that has it, or choose another port", err)
}
