// Package etcd is a rendezvous registry that many servers share, kept in an etcd cluster
// (https://etcd.io, API v3): a [rendezvous.Space] whose revisions are etcd's mod_revision.
//
// Keys expire by leases. A lease for each key would cost the cluster a renewal or an expiry each
// (etcd issue 18069), so all keys that expire within the same minute share one, and so do all
// servers: its id is made from prefix and minute, and whoever needs it first grants it.
//
// Reads and watches ask for a leader: a member that is cut off from the others answers none of them.
package etcd
