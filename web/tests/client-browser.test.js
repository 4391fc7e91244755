// The TypeScript client in Chromium, as the modules that tsc makes of it.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { api } from './lib/api.js'
import { startBrowser, startPage } from './lib/browser.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { startProxy } from './lib/proxy.js'
import { mint } from './lib/token.js'

const token = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' })
const branch = api(token)
const service = api(mint({ companyId: 'c1', userRole: 'service' }))

let postgres, site, one, other, browser
before(async () => {
  postgres = await startPostgres()
  site = await startPage(new URL('../packages/client/dist/', import.meta.url))
  const settings = { CORS_ORIGINS: site.origin('localhost') }
  one = await startInstance(postgres.dsn, 'one', settings)
  other = await startInstance(postgres.dsn, 'other', settings)
  browser = await startBrowser()
})
after(async () => {
  await browser?.close()
  await Promise.all([one?.stop(), other?.stop(), site?.stop()])
  await postgres?.stop()
})

/** A page with the client. Pages of one context share localStorage. */
async function openPage(context) {
  const page = await context.newPage()
  await page.goto(site.origin('localhost'))
  return page
}

async function startContext(t) {
  const context = await browser.newContext()
  t.after(() => context.close())
  return context
}

/** Connects in the page, which keeps what it receives; live when it resolves, with its status. */
function follow(page, url, { kept = false, ...options } = {}) {
  return page.evaluate(async ({ url, token, kept, options }) => {
    const { connect, localStorageCursor } = await import('/index.js')
    const client = connect({ url, token, subscribe: ['/orders'], ...(kept ? { cursor: localStorageCursor({ key: 'orders' }) } : {}), ...options })
    Object.assign(globalThis, { client, received: [], held: undefined })
    client.onAny(async (event) => {
      await globalThis.held
      globalThis.received.push(JSON.stringify(event))
    })
    return new Promise((resolve) => client.onState((status) => { if (status.phase === 'live') resolve({ ...status }) }))
  }, { url, token, kept, options })
}

const order = (orderId) => ({ namespace: '/orders', type: 'newOrder', data: { orderId, branchId: 'b7' } })
const publish = (...ids) => service.publishAll(one.url, ids.map(order))
const received = (page) => page.evaluate(() => globalThis.received.map((envelope) => JSON.parse(envelope).data.orderId))
const until = (page, count) => page.waitForFunction((count) => globalThis.received.length >= count, count, { polling: 20, timeout: 30_000 })
/** Waits until so many tabs hold their locks: a browser takes a moment to notice that one is gone. */
const living = (page, count) => page.waitForFunction(async (count) => (await navigator.locks.query()).held.length === count, count, { polling: 20 })
/**
 * Waits until so many cursors are kept, or whatever number if that is null, and so many of them are where the page's client is:
 * what is received is kept a moment later.
 */
async function kept(page, count, upToDate) {
  const enough = ({ count, upToDate }) => {
    const cursors = Object.values(localStorage)
    return (count === null || cursors.length === count) && cursors.filter((cursor) => cursor === globalThis.client.cursor).length === upToDate
  }
  await page.waitForFunction(enough, { count, upToDate }, { polling: 20 }).catch(async (error) => {
    const there = await page.evaluate(async () => ({
      ...localStorage, cursor: globalThis.client.cursor, held: (await navigator.locks.query()).held.map(({ name }) => name),
    }))
    throw new Error(`want ${upToDate} of ${count ?? 'all'}, there is ${JSON.stringify(there)}`, { cause: error })
  })
}

test('WebSocket: a page whose line is cut misses nothing', { timeout: 60_000 }, async (t) => {
  const line = await startLine(one.url)
  t.after(() => line.stop())
  const page = await openPage(await startContext(t))
  const past = (await branch.history(one.url)).length
  assert.equal((await follow(page, line.url)).transport, 'websocket')
  await publish('a', 'b')
  await until(page, 2)
  line.cut()
  await publish('c', 'd')
  line.leadTo(other.url)
  await until(page, 4)
  const receipt = await page.evaluate((draft) => globalThis.client.publish(draft), order('e'))
  await until(page, 5)
  const envelopes = await page.evaluate(() => globalThis.received)
  assert.deepEqual(envelopes, (await branch.history(one.url)).slice(past))
  assert.equal(JSON.parse(envelopes.at(-1)).id, receipt.id)
})

test('a proxy that refuses the upgrade: the page gets server-sent events', { timeout: 60_000 }, async (t) => {
  const proxy = await startProxy(one.url)
  t.after(() => proxy.stop())
  const page = await openPage(await startContext(t))
  const requests = []
  page.on('request', (request) => requests.push(request))
  assert.equal((await follow(page, proxy.url)).transport, 'sse')
  assert.ok(proxy.seen.upgrades >= 2)
  await publish('f')
  await until(page, 1)
  const receipt = await page.evaluate((draft) => globalThis.client.publish(draft), order('g'))
  await until(page, 2)
  assert.deepEqual(await received(page), ['f', 'g'])
  assert.equal(await page.evaluate(() => JSON.parse(globalThis.received.at(-1)).id), receipt.id)
  assert.ok(requests.length > 0 && !requests.some((request) => request.url().includes(token)), 'no token in a URL')
})

test('tabs share a kept cursor, which is never ahead of one that lives', { timeout: 60_000 }, async (t) => {
  const context = await startContext(t)
  const [slow, quick] = [await openPage(context), await openPage(context)]
  await follow(slow, one.url, { kept: true })
  await follow(quick, other.url, { kept: true })

  // One tab is stuck with its first event; the other goes on.
  await slow.evaluate(() => { globalThis.held = new Promise((resolve) => { globalThis.release = resolve }) })
  await publish('1', '2', '3', '4')
  await until(quick, 4)
  await kept(quick, 2, 1)

  // A third one begins where the slow one is.
  const third = await openPage(context)
  await follow(third, one.url, { kept: true })
  await until(third, 4)
  assert.deepEqual(await received(third), ['1', '2', '3', '4'])
  assert.deepEqual(await received(slow), [])

  // The slow one is killed, and has nothing more to do: a new one begins where the others are.
  await slow.close()
  await living(quick, 2)
  await publish('5')
  await Promise.all([until(third, 5), until(quick, 5)])
  // Once the dead one's key was still there, for reasons not found; whoever writes next takes it away, and that is asked for below.
  await kept(quick, null, 2)
  const fourth = await openPage(context)
  await follow(fourth, one.url, { kept: true })
  await publish('6')
  await until(fourth, 1)
  assert.deepEqual(await received(fourth), ['6'])

  // When all are gone, the cursor is still there.
  await Promise.all([third, quick, fourth].map((page) => until(page, page === fourth ? 1 : 6)))
  await kept(fourth, 3, 3)
  await Promise.all([third, quick, fourth].map((page) => page.evaluate(() => globalThis.client.close())))
  await living(fourth, 0)
  await Promise.all([third, quick, fourth].map((page) => page.close()))
  await publish('7')
  const last = await openPage(context)
  await follow(last, one.url, { kept: true })
  await until(last, 1)
  assert.deepEqual(await received(last), ['7'])
  await kept(last, 1, 1) // the dead tabs’ keys are gone
})

test('a reload goes on where the page was', { timeout: 60_000 }, async (t) => {
  const page = await openPage(await startContext(t))
  await follow(page, one.url, { kept: true })
  await publish('8')
  await until(page, 1)
  await page.waitForFunction(() => Object.values(localStorage).includes(globalThis.client.cursor), undefined, { polling: 20 })
  await page.goto('about:blank')
  await publish('9', '10')
  await page.goto(site.origin('localhost'))
  await follow(page, one.url, { kept: true })
  await until(page, 2)
  assert.deepEqual(await received(page), ['9', '10'])
})

test('pages without Web Locks are told what to do', { timeout: 60_000 }, async (t) => {
  const context = await startContext(t)
  await context.addInitScript(() => Object.defineProperty(navigator, 'locks', { value: undefined }))
  const page = await openPage(context)
  const error = await page.evaluate(async ({ url, token }) => {
    const { connect, localStorageCursor } = await import('/index.js')
    const client = connect({ url, token, subscribe: ['/orders'], cursor: localStorageCursor() })
    return new Promise((resolve) => client.onState(({ phase, error }) => { if (phase === 'closed') resolve(`${error.code}: ${error.message}`) }))
  }, { url: one.url, token })
  assert.match(error, /^storage: .*https/)
})
