// A page in Chromium that loads npm's socket.io-client as browsers get it, from another origin than the server's.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { startBalancer } from './lib/balancer.js'
import { startBrowser, startPage } from './lib/browser.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { newCompany, watchful } from './lib/socketio.js'

let postgres, site, browser, one, other, trailing
before(async () => {
  postgres = await startPostgres()
  site = await startPage(new URL('.', import.meta.resolve('socket.io-client/dist/socket.io.js')))
  const settings = { ...watchful, TAILROOM_DATABASE_CONNS: '2', CORS_ORIGINS: site.origin('localhost') }
  one = await startInstance(postgres.dsn, 'one', settings)
  other = await startInstance(postgres.dsn, 'other', settings)
  trailing = await startInstance(postgres.dsn, 'trailing', { ...settings, TAILROOM_HEARTBEAT: '1h', TAILROOM_SOCKETIO_TRAILING: '/orders' })
  browser = await startBrowser()
})
after(async () => {
  await browser?.close()
  await Promise.all([one?.stop(), other?.stop(), trailing?.stop(), site?.stop()])
  await postgres?.stop()
})

const test = (name, check) => it(name, { timeout: 60_000 }, check)

/** A page, and the line through which it reaches the instances, each request another. */
async function open(t, ...instances) {
  const company = newCompany()
  const balancer = await startBalancer(...instances.map(({ url }) => url))
  const line = await startLine(balancer.url)
  const context = await browser.newContext()
  t.after(async () => {
    await context.close()
    await line.stop()
    await balancer.stop()
  })
  const page = await context.newPage()
  const requests = []
  page.on('request', (request) => requests.push(request))
  const errors = []
  page.on('pageerror', (error) => errors.push(error.message))
  await page.goto(site.origin('localhost'))
  return { company, balancer, line, page, requests, errors }
}

/** Loads the client and follows /orders; whoever has an id in thrown throws when it comes. */
async function follow({ page, line, company }, { thrown = [], kept = false } = {}) {
  await page.addScriptTag({ url: '/socket.io.min.js' })
  await page.evaluate(({ url, token, thrown, kept }) => {
    const received = []
    const connects = []
    const transports = []
    const keep = (offset) => { if (kept) localStorage.setItem('offset', offset) }
    const socket = globalThis.io(`${url}/orders`, {
      auth: (give) => give({ token, ...(kept ? { offset: localStorage.getItem('offset') ?? undefined } : {}) }),
      withCredentials: true, reconnectionDelay: 50, reconnectionDelayMax: 500,
    })
    Object.assign(globalThis, { socket, received, connects, transports, live: 0 })
    socket.on('connect', () => {
      connects.push(Boolean(socket.recovered))
    })
    socket.io.on('open', () => {
      transports.push(socket.io.engine.transport.name)
      socket.io.engine.on('upgrade', ({ name }) => transports.push(name))
    })
    socket.on('newOrder', (...args) => {
      received.push(args)
      if (thrown.includes(args[0].orderId)) {
        thrown.splice(thrown.indexOf(args[0].orderId), 1)
        throw new Error(`cannot show ${args[0].orderId}`)
      }
    })
    socket.on('$o', keep)
    socket.on('$live', (offset) => {
      keep(offset)
      globalThis.live++
    })
  }, { url: line.url, token: company.token(), thrown, kept })
  await until(page, () => globalThis.live > 0)
}

const until = (page, check, argument) => page.waitForFunction(check, argument, { polling: 20, timeout: 30_000 })
const count = (page, number) => until(page, (number) => globalThis.received.length >= number, number)
const upgrades = (page, number) => until(page, (number) => globalThis.transports.filter((name) => name === 'websocket').length >= number, number)
const state = (page) => page.evaluate(() => ({
  orders: globalThis.received.map(([data]) => data.orderId),
  widths: [...new Set(globalThis.received.map((args) => args.length))],
  connects: globalThis.connects,
  transports: globalThis.transports,
}))
const ids = (count, prefix) => Array.from({ length: count }, (_, i) => `${prefix}-${i}`)

describe('Socket.IO in Chromium', { concurrency: 4 }, () => {
  test('long-polling, upgraded, cut for a while: everything is there once', async (t) => {
    const party = await open(t, one, other)
    const { company, line, page, balancer, requests } = party
    await follow(party)
    await company.order(one.url, ...ids(20, 'early'))
    await upgrades(page, 1)
    await company.order(other.url, ...ids(20, 'upgraded'))
    await count(page, 40)

    line.cut()
    await company.order(one.url, ...ids(100, 'missed'))
    await until(page, () => !globalThis.socket.connected)
    line.leadTo(balancer.url)
    await count(page, 140)
    await upgrades(page, 2)
    await company.order(other.url, 'last')
    await count(page, 141)

    const { orders, widths, connects, transports } = await state(page)
    assert.deepEqual(orders, [...ids(20, 'early'), ...ids(20, 'upgraded'), ...ids(100, 'missed'), 'last'])
    assert.deepEqual(widths, [1], 'the data are the only argument')
    assert.deepEqual(connects, [false, true])
    assert.deepEqual(transports, ['polling', 'websocket', 'polling', 'websocket'])
    assert.ok(!requests.some((request) => request.url().includes(company.token())), 'no token in a URL')
    assert.deepEqual(party.errors, [])
  })

  test('a listener that throws, live and in a replay, stops nothing', async (t) => {
    const party = await open(t, one, other)
    const { company, line, page, balancer, errors } = party
    await follow(party, { thrown: ['o-1', 'o-3'] })
    await company.order(one.url, 'o-1', 'o-2')
    await count(page, 2)
    line.cut()
    await company.order(one.url, 'o-3', 'o-4')
    await until(page, () => !globalThis.socket.connected)
    line.leadTo(balancer.url)
    await count(page, 4)
    await company.order(one.url, 'o-5')
    await count(page, 5)
    const { orders, connects } = await state(page)
    assert.deepEqual(orders, ['o-1', 'o-2', 'o-3', 'o-4', 'o-5'])
    assert.deepEqual(connects, [false, true])
    assert.deepEqual(errors, ['cannot show o-1', 'cannot show o-3'])
  })

  test('trailing: the event that a listener threw at comes again', async (t) => {
    const party = await open(t, trailing)
    const { company, line, page, balancer } = party
    await follow(party, { thrown: ['o-2'] })
    await company.order(one.url, 'o-1', 'o-2')
    await count(page, 2)
    line.cut()
    await company.order(one.url, 'o-3')
    await until(page, () => !globalThis.socket.connected)
    line.leadTo(balancer.url)
    await count(page, 4)
    const { orders, widths, connects } = await state(page)
    assert.deepEqual(orders, ['o-1', 'o-2', 'o-2', 'o-3'])
    assert.deepEqual(widths, [2])
    assert.deepEqual(connects, [false, true])
  })

  test('a page that keeps its offset goes on after a reload', async (t) => {
    const party = await open(t, one, other)
    const { company, page } = party
    await follow(party, { kept: true })
    const [{ cursor }] = await company.order(one.url, 'o-1')
    await until(page, (position) => Number(localStorage.getItem('offset').split('-')[1]) >= position, Number(cursor.split('-')[1]))
    await page.goto('about:blank')
    await company.order(one.url, 'o-2', 'o-3')
    await page.goto(site.origin('localhost'))
    await follow(party, { kept: true })
    await count(page, 2)
    assert.deepEqual((await state(page)).orders, ['o-2', 'o-3'])
  })
})
