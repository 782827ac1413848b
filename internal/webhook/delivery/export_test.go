package delivery

// What tests outside of the package know of it.
const (
	PollTime    = pollTime
	IdleTime    = idleTime
	LeaseTime   = leaseTime
	MaxRequests = maxRequests
	MaxBusy     = maxBusy
	ProbeMax    = probeMax
	KeptBody    = keptBody
	ShareEvents = shareEvents
	PingType    = pingType
	RefusedWait = refusedWait
	MaxMoves    = maxMoves
)
