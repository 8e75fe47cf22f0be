// The negentropy of nostr-tools, driven by the same lines as dibber's in ../negentropy. It only asks, never answers.
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'

const require = createRequire(import.meta.url)
// The package does not export the file that has it.
const { Negentropy, NegentropyStorageVector } = require(join(dirname(require.resolve('nostr-tools')), 'nip77.js'))

// Its own limit, 60000 bytes, where none is given: it does without one never.
const frame = process.env.FRAMESIZELIMIT ? Number(process.env.FRAMESIZELIMIT) : undefined
const items = new NegentropyStorageVector()
let ne
for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...rest] = line.split(',')
  switch (word) {
    case 'item':
      items.insert(Number(rest[0]), rest[1])
      break
    case 'seal':
      items.seal()
      ne = new Negentropy(items, frame)
      break
    case 'initiate':
      console.log(`msg,${ne.initiate()}`)
      break
    case 'msg': {
      const next = ne.reconcile(rest[0], id => console.log(`have,${id}`), id => console.log(`need,${id}`))
      console.log(next === null ? 'done' : `msg,${next}`)
      break
    }
    default:
      throw new Error(`unknown line ${word}`)
  }
}
