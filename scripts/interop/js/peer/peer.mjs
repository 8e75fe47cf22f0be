// A peer made of js-libp2p, for scripts/interop; package bed tells its arguments and what it prints.
import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [ip, verb, target, ...rest] = process.argv.slice(2)
const listen = [`/ip4/${ip}/udp/0/quic-v1`, `/ip4/${ip}/tcp/0`]
if (verb === 'reserve') listen.push(`${target}/p2p-circuit`)

const services = { identify: identify(), ping: ping(), dcutr: dcutr() }
if (verb === 'serve') services.relay = circuitRelayServer()
if (verb === 'hear' || verb === 'say') services.pubsub = gossipsub()
if (verb === 'table' || verb === 'find') {
  // Private addresses count here, unlike on the public network.
  services.dht = kadDHT({ protocol: '/ipfs/lan/kad/1.0.0', clientMode: verb === 'find', peerInfoMapper: passthroughMapper })
}

const node = await createLibp2p({
  addresses: { listen },
  transports: [quic(), tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services
})

// All it listens on: getMultiaddrs leaves out what it has not seen confirmed.
function listening () {
  for (const address of node.components.transportManager.getAddrs()) console.log(`listening ${address}/p2p/${node.peerId}`)
}

if (verb === 'serve') {
  listening()
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

if (verb === 'hear') {
  node.services.pubsub.addEventListener('message', (e) => console.log(`heard ${Buffer.from(e.detail.data).toString('base64')}`))
  node.services.pubsub.subscribe(target)
  listening()
} else if (verb === 'say') {
  const [topic, data] = rest
  const connection = await node.dial(multiaddr(target))
  while (!node.services.pubsub.getSubscribers(topic).some((p) => p.equals(connection.remotePeer))) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await node.services.pubsub.publish(topic, Buffer.from(data, 'base64'))
  console.log(`says ${node.peerId}`)
} else if (verb === 'table') {
  listening()
  while (node.services.dht.routingTable.size === 0) await new Promise((resolve) => setTimeout(resolve, 50))
  console.log('joined')
} else if (verb === 'find') {
  await node.dial(multiaddr(target))
  const found = await node.peerRouting.findPeer(peerIdFromString(rest[0]), { useCache: false })
  console.log(`found ${found.id} ${found.multiaddrs[0]}`)
}

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
