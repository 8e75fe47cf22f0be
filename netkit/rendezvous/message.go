package rendezvous

// messageType is Message.type of the specification.
type messageType uint64

const (
	typeRegister         messageType = 0
	typeRegisterResponse messageType = 1
	typeUnregister       messageType = 2
	typeDiscover         messageType = 3
	typeDiscoverResponse messageType = 4
)

// The messages are proto2: a nil pointer is a field that was not sent, and
// zero values are written. Field numbers are in codec.go.

type message struct {
	kind             *messageType
	register         *registerMessage
	registerResponse *registerResponse
	unregister       *unregisterMessage
	discover         *discoverMessage
	discoverResponse *discoverResponse
}

type registerMessage struct {
	ns     *string
	record []byte
	ttl    *uint64 // seconds
	// other is a record of the flavour that record is not (extension).
	other []byte
}

type registerResponse struct {
	status *Status
	text   *string
	ttl    *uint64 // seconds
}

type unregisterMessage struct {
	ns *string
}

type discoverMessage struct {
	ns     *string
	limit  *uint64
	cookie []byte
	// both asks for both flavours of each record (extension).
	both bool
}

type discoverResponse struct {
	registrations []registerMessage
	// encoded are registrations that are encoded already; a decoder sets
	// none.
	encoded []byte
	cookie  []byte
	status  *Status
	text    *string
	// more says that an answer without registrations is not the end: there were
	// so many that the requester may not see (extension).
	more bool
}
