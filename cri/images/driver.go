package images

// Driver is how a container's root filesystem is made of layers.
type Driver string

const (
	// Overlay mounts the layers on top of each other; nothing is copied.
	Overlay Driver = "overlay"
	// Copy copies them, where overlay cannot be mounted.
	Copy Driver = "copy"
)
