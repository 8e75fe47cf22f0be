// A peer made of js-libp2p, for scripts/interop; package bed tells its arguments and what it prints.
import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [ip, verb, target] = process.argv.slice(2)
const listen = [`/ip4/${ip}/udp/0/quic-v1`, `/ip4/${ip}/tcp/0`]
if (verb === 'reserve') listen.push(`${target}/p2p-circuit`)

const services = { identify: identify(), ping: ping(), dcutr: dcutr() }
if (verb === 'serve') services.relay = circuitRelayServer()

const node = await createLibp2p({
  addresses: { listen },
  transports: [quic(), tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services
})

if (verb === 'serve') {
  // All it listens on: getMultiaddrs leaves out what it has not seen confirmed.
  for (const address of node.components.transportManager.getAddrs()) console.log(`listening ${address}/p2p/${node.peerId}`)
  console.log('ready')
} else if (verb === 'reserve') {
  // Started is reserved. Of a reservation's limits it keeps nothing.
  console.log(`reserved ${node.peerId} 0 0`)
} else if (verb === 'dial') {
  try {
    const connection = await node.dial(multiaddr(target))
    await node.services.ping.ping(multiaddr(target))
    console.log(`connected ${connection.limits?.seconds ?? 0} ${connection.limits?.bytes ?? 0}`)
  } catch (err) {
    console.log(`failed ${err.message}`)
  }
}

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
