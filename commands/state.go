package commands

import (
	"errors"

	"dibber/netkit/store"
)

// checkedState is the state folder, of a format that this program knows; nothing in it is touched. Whatever opens the folder gets its
// name here or from [hostOptions.openState].
func (o *hostOptions) checkedState(e *env) (dir string, err error) {
	dir = o.stateDir(e)
	_, err = store.CheckFormat(dir)
	return dir, err
}

// openState is the state folder for a command that reads and writes in it without being its only owner. One of an older format is
// migrated; one that is missing or empty is made only if create is set.
func (o *hostOptions) openState(e *env, create bool) (dir string, err error) {
	dir = o.stateDir(e)
	version, err := store.CheckFormat(dir)
	if err == nil && (create || version >= 0) {
		_, err = store.Migrate(dir)
	}
	return dir, err
}

// ownState makes this process the owner of the state folder, and migrates one of an older format.
func (o *hostOptions) ownState(out *output, open *closers) (dir string, err error) {
	if dir, err = o.checkedState(out.e); err != nil {
		return dir, err
	}
	lock, err := store.Lock(dir)
	if err != nil {
		return dir, err
	}
	open.add(lock.Close)
	from, err := store.Migrate(dir)
	if err == nil && from >= 0 && from < store.Format {
		out.notice("state folder migrated from format %d to %d", from, store.Format)
	}
	return dir, err
}

// stateFailure gives the errors of a state folder's format their class.
func stateFailure(err error) (failure, bool) {
	if _, newer := errors.AsType[*store.NewerError](err); newer {
		return failure{
			Exit: exitProtocol, Code: "newer_state", Phase: "start",
			Hint: "a newer dibber wrote it, use that one or a later; or name another --state-dir",
		}, true
	}
	if errors.Is(err, store.ErrFormat) {
		return failure{Exit: exitIdentity, Code: "bad_state", Phase: "start", Hint: "restore the folder from a backup, or name another --state-dir"}, true
	}
	return failure{}, false
}
