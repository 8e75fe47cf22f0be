// Opens the page in Chromium, has it dial, and prints what it says: "connected JSON" or "failed REASON".
//
//     node browser.mjs CHROMIUM ADDR
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { chromium } from 'playwright-core'

const [executablePath, target] = process.argv.slice(2)
const script = await readFile(new URL('./page.js', import.meta.url))

// Over loopback, which browsers take for secure: a page from elsewhere without TLS has no WebTransport.
const server = createServer((request, response) => {
  if (request.url === '/page.js') response.setHeader('content-type', 'text/javascript').end(script)
  else response.setHeader('content-type', 'text/html').end('<!doctype html><title>peer</title><script src="/page.js"></script>')
})
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))

const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox'] // it has none as root
})
try {
  const page = await browser.newPage()
  page.on('console', (message) => console.error(message.text()))
  page.on('pageerror', (err) => console.error(err))
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  console.log('browser', browser.version())
  console.log('connected', JSON.stringify(await page.evaluate((address) => globalThis.dial(address), target)))
} catch (err) {
  console.log('failed', err.message.replaceAll('\n', ' '))
} finally {
  await browser.close()
  server.close()
}
