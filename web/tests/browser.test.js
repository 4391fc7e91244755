// What a real browser lets pages do: Chromium, on pages of other origins than
// the server's. To it 127.0.0.1 and localhost are two sites, both trustworthy.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { api } from './lib/api.js'
import { startBrowser, startPage } from './lib/browser.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const token = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' })
const service = api(mint({ companyId: '*', userRole: 'service' }))
const branch = api(token)

let postgres, browser, listed, foreign, one, other
before(async () => {
  listed = await startPage()
  foreign = await startPage()
  postgres = await startPostgres()
  const settings = { CORS_ORIGINS: `${listed.origin('localhost')},${listed.origin('127.0.0.1')}` }
  one = await startInstance(postgres.dsn, 'one', settings)
  other = await startInstance(postgres.dsn, 'other', settings)
  browser = await startBrowser()
})
after(async () => {
  await browser?.close()
  await Promise.all([one?.stop(), other?.stop(), listed?.stop(), foreign?.stop()])
  await postgres?.stop()
})

const sites = {
  localhost: { sameSite: 'None', secure: true }, // another site than the server's
  '127.0.0.1': { sameSite: 'Lax', secure: false }, // another origin of the same site
}

for (const [host, expected] of Object.entries(sites)) {
  test(`EventSource on a page of ${host}: comes back by itself and misses nothing`, { timeout: 120_000 }, async (t) => {
    const line = await startLine(one.url)
    const context = await browser.newContext()
    t.after(async () => {
      await context.close()
      await line.stop()
    })
    const page = await context.newPage()
    const requests = []
    page.on('request', (request) => requests.push(request))
    await page.goto(listed.origin(host))
    const past = (await branch.history(one.url)).length

    assert.deepEqual(await getTicket(page, line.url), { status: 200, keys: ['expiresAt'], readable: '' })
    const [cookie] = await context.cookies(`${line.url}/v1/stream`)
    assert.equal(cookie.name, 'tailroom_ticket')
    assert.deepEqual(
      { httpOnly: cookie.httpOnly, path: cookie.path, sameSite: cookie.sameSite, secure: cookie.secure },
      { httpOnly: true, path: '/v1/stream', ...expected })

    assert.equal(await follow(page, line.url), 'live')
    await service.publish(one.url, order(`${host}-before`))
    await received(page, 1)

    line.cut()
    for (let i = 0; i < 20; i++) await service.publish([one, other][i % 2].url, order(`${host}-missed-${i}`))
    line.leadTo(other.url)
    await received(page, 21)
    await service.publish(one.url, order(`${host}-after`))
    await received(page, 22)

    const envelopes = await page.evaluate(() => globalThis.received)
    assert.deepEqual(envelopes, (await branch.history(one.url)).slice(past), 'byte for byte what the log has, each once')
    const streams = requests.filter((request) => request.url().includes('/v1/stream'))
    assert.ok(streams.length >= 2, 'it came back')
    for (const request of requests) {
      const parts = [request.url(), (await request.allHeaders()).referer ?? '']
      assert.ok(!parts.some((part) => part.includes(token) || part.includes(cookie.value)), 'no token in a URL')
    }

    // Who leaves takes the ticket away.
    assert.equal(await page.evaluate(async (url) => {
      globalThis.source.close()
      return (await fetch(`${url}/v1/tickets`, { method: 'DELETE', credentials: 'include' })).status
    }, line.url), 204)
    assert.deepEqual(await context.cookies(`${line.url}/v1/stream`), [])
    assert.equal(await follow(page, line.url), 'closed')
  })
}

test('a page of an origin that is not listed is refused, whatever it has', { timeout: 60_000 }, async (t) => {
  const context = await browser.newContext()
  t.after(() => context.close())
  const page = await context.newPage()
  await page.goto(listed.origin('localhost'))
  await getTicket(page, one.url)
  assert.equal(await follow(page, one.url), 'live')

  // It is of the same site as the listed one, so the browser sends the cookie.
  await page.goto(foreign.origin('localhost'))
  const network = await context.newCDPSession(page) // sees what the page may not
  await network.send('Network.enable')
  const exchange = exchangeOf(network, `${one.url}/v1/stream`)
  assert.equal(await follow(page, one.url), 'closed')
  const { sent, came } = await exchange
  assert.match(sent.headers.Cookie ?? '', /tailroom_ticket=/)
  assert.equal(came.statusCode, 403)

  const refused = await page.evaluate(async ({ url, token }) => {
    const headers = { Authorization: `Bearer ${token}` }
    const attempt = (path, init) => fetch(url + path, init).then((response) => response.status, (error) => error.name)
    return [
      await attempt('/v1/catalog', {}),
      await attempt('/v1/catalog', { headers }),
      await attempt('/v1/stream', { credentials: 'include' }),
      await attempt('/v1/tickets', { method: 'POST', credentials: 'include', headers }),
      await attempt('/v1/tickets', { method: 'DELETE', credentials: 'include' }),
    ]
  }, { url: one.url, token })
  assert.deepEqual(refused, Array(5).fill('TypeError'))
  assert.equal(await talk(page, one.url), 'closed 1006')
})

test('a WebSocket of a listed page works', { timeout: 60_000 }, async (t) => {
  const context = await browser.newContext()
  t.after(() => context.close())
  const page = await context.newPage()
  await page.goto(listed.origin('localhost'))
  const past = (await branch.history(one.url)).length
  assert.equal(await talk(page, one.url), 'live')
  await service.publish(other.url, order('by-socket'))
  await received(page, 1)
  assert.deepEqual(await page.evaluate(() => globalThis.received), (await branch.history(one.url)).slice(past))
})

function order(orderId) {
  return { companyId: 'c1', namespace: '/orders', type: 'newOrder', data: { orderId, branchId: 'b7' } }
}

function getTicket(page, url) {
  return page.evaluate(async ({ url, token }) => {
    const response = await fetch(`${url}/v1/tickets`, {
      method: 'POST', credentials: 'include', headers: { Authorization: `Bearer ${token}` },
    })
    return { status: response.status, keys: Object.keys(await response.json()), readable: document.cookie }
  }, { url, token })
}

/** A plain EventSource, which keeps what it gets. Resolves to live, or to closed when it has given up. */
function follow(page, url) {
  return page.evaluate((url) => new Promise((resolve) => {
    globalThis.received = []
    globalThis.source = new EventSource(`${url}/v1/stream?namespace=/orders`, { withCredentials: true })
    const { source } = globalThis
    source.addEventListener('newOrder', (event) => globalThis.received.push(event.data))
    source.addEventListener('tailroom.live', () => resolve('live'), { once: true })
    source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) resolve('closed') })
  }), url)
}

/** The same as a WebSocket, whose token goes in its hello. */
function talk(page, url) {
  return page.evaluate(({ url, token }) => new Promise((resolve) => {
    globalThis.received = []
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/ws`, 'tailroom.v1')
    socket.onopen = () => socket.send(JSON.stringify({ type: 'hello', token, subscribe: [{ namespace: '/orders' }] }))
    socket.onclose = ({ code }) => resolve(`closed ${code}`)
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data)
      if (message.type === 'events') globalThis.received.push(...message.events.map((event) => JSON.stringify(event)))
      if (message.type === 'live') resolve('live')
    }
  }), { url, token })
}

/**
 * The headers that the next request to an address was sent with, and what came
 * back. A page makes others of its own accord (its icon), and the parts of one
 * request are reported in any order: so all are kept, by the request's id.
 */
function exchangeOf(network, address) {
  const sent = new Map()
  const came = new Map()
  return new Promise((resolve) => {
    let id
    const look = () => { if (sent.has(id) && came.has(id)) resolve({ sent: sent.get(id), came: came.get(id) }) }
    network.on('Network.requestWillBeSent', ({ requestId, request }) => {
      if (request.url.startsWith(address)) id ??= requestId
      look()
    })
    network.on('Network.requestWillBeSentExtraInfo', (part) => { sent.set(part.requestId, part); look() })
    network.on('Network.responseReceivedExtraInfo', (part) => { came.set(part.requestId, part); look() })
  })
}

/** Waits until the page has received so many events. */
function received(page, count) {
  return page.waitForFunction((count) => globalThis.received.length >= count, count, { polling: 20, timeout: 30_000 })
}
