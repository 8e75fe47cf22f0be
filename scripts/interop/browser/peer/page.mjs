// The page: a peer made of js-libp2p, with the transports that a browser has.
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { webTransport } from '@libp2p/webtransport'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

// dial connects to an address, waits until the peer has identified itself, pings it, and tells what it has seen.
globalThis.dial = async (target) => {
  const node = await createLibp2p({
    transports: [webTransport(), webRTCDirect(), webSockets(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // In a browser js-libp2p by itself dials neither private addresses nor WebSocket without TLS.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify({ runOnLimitedConnection: true }), ping: ping({ runOnLimitedConnection: true }) }
  })
  try {
    const identified = new Map()
    let wake = () => {}
    node.addEventListener('peer:identify', ({ detail }) => {
      identified.set(detail.connection.id, detail)
      wake()
    })
    const signal = AbortSignal.timeout(20_000)
    const connection = await node.dial(multiaddr(target), { signal })
    while (!identified.has(connection.id)) {
      signal.throwIfAborted()
      await new Promise((resolve) => {
        wake = resolve
        signal.addEventListener('abort', resolve)
      })
    }
    const { agentVersion, protocols } = identified.get(connection.id)
    const roundTrip = await node.services.ping.ping(connection.remotePeer, { signal })
    return {
      peer: connection.remotePeer.toString(),
      // The relays' connections, too: those name the transport that the browser used.
      addrs: node.getConnections().map((c) => c.remoteAddr.toString()),
      limits: { duration_s: connection.limits?.seconds ?? null, bytes: connection.limits?.bytes === undefined ? null : Number(connection.limits.bytes) },
      agent: agentVersion,
      protocols,
      round_trip_ms: roundTrip
    }
  } finally {
    await node.stop()
  }
}
