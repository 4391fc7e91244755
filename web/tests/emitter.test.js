// The Emitter: what old Socket.IO backends say, over HTTP, once whatever the line does.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Emitter, TailroomError } from '@tailroom/client/emitter'
import { api } from './lib/api.js'
import { startInstance, startPostgres } from './lib/process.js'
import { startProxy } from './lib/proxy.js'
import { mint } from './lib/token.js'

const token = mint({ companyId: 'c1', userRole: 'service' })
const reader = api(token)

let postgres, instance
before(async () => {
  postgres = await startPostgres()
  instance = await startInstance(postgres.dsn, 'one')
})
after(async () => {
  await instance?.stop()
  await postgres?.stop()
})

/** What came into the log while work ran. */
async function logged(work) {
  const past = (await reader.history(instance.url)).length
  await work()
  return (await reader.history(instance.url)).slice(past).map((envelope) => JSON.parse(envelope))
}

const order = (n) => ({ orderId: `o-${n}`, branchId: 'b7' })

test('to, in and of address as they did, and the calls’ order is the log’s', { timeout: 60_000 }, async () => {
  const io = new Emitter({ url: instance.url, token })
  const events = await logged(async () => {
    const orders = io.of('/orders')
    const first = await orders.to('branch_b7').emit('newOrder', order(0))
    assert.deepEqual([first.version, first.duplicate], [1, false])
    void orders.to('branch:b7').to(['branch:b8', 'company:c1']).emit('newOrder', order(1))
    void orders.in('branch:b9').emit('newOrder', order(2))
    void orders.emit('newOrder', order(3), { correlationId: 'shift-9' })
    for (let n = 4; n < 1_004; n++) void orders.emit('newOrder', order(n))
    await io.flush()
  })
  assert.deepEqual(events.slice(0, 4).map(({ rooms }) => rooms), [['branch:b7'], ['branch:b7', 'branch:b8', 'company:c1'], ['branch:b9'], ['branch:b7']])
  assert.equal(events[3].correlationId, 'shift-9')
  assert.deepEqual(events.map(({ data }) => data.orderId), Array.from({ length: 1_004 }, (_, n) => `o-${n}`))
})

test('what is refused is refused alone, and the rest keeps its order', { timeout: 60_000 }, async () => {
  const many = new Emitter({ url: instance.url, token }).of('/orders')
  const wrong = new Set([0, 7, 8, 99])
  let outcomes
  const events = await logged(async () => {
    outcomes = await Promise.allSettled(Array.from({ length: 100 }, (_, n) => many.emit('newOrder', wrong.has(n) ? { branchId: 'b7' } : order(n))))
  })
  assert.deepEqual(outcomes.flatMap(({ status }, n) => status === 'rejected' ? [n] : []), [...wrong])
  assert.deepEqual(events.map(({ data }) => data.orderId), Array.from({ length: 100 }, (_, n) => n).filter((n) => !wrong.has(n)).map((n) => `o-${n}`))
})

test('a refusal has its code', { timeout: 60_000 }, async () => {
  const orders = new Emitter({ url: instance.url, token }).of('/orders')
  const [before, wrong, after] = await Promise.allSettled([
    orders.emit('newOrder', order('before')), orders.emit('newOrder', { branchId: 'b7' }), orders.emit('newOrder', order('after')),
  ])
  assert.deepEqual([before.status, after.status], ['fulfilled', 'fulfilled'])
  assert.ok(wrong.reason instanceof TailroomError)
  assert.deepEqual([wrong.reason.code, wrong.reason.status], ['schema_violation', 422])
})

test('answers that are lost, 429 and 503: tried again, and published once', { timeout: 60_000 }, async (t) => {
  const trouble = [
    async (request, response, pass) => { await pass(null); response.destroy() }, // it was done, and nobody hears of it
    (request, response) => { request.resume(); response.writeHead(429, { 'Retry-After': '1' }).end() },
    (request, response) => {
      request.resume()
      response.writeHead(503, { 'Content-Type': 'application/problem+json' }).end('{"code":"draining","detail":"it stops","status":503}')
    },
    (request) => request.destroy(),
  ]
  const proxy = await startProxy(instance.url, (request, response, pass) => {
    const next = trouble.shift()
    return next ? next(request, response, pass) : pass()
  })
  t.after(() => proxy.stop())
  const io = new Emitter({ url: proxy.url, token })
  const events = await logged(async () => {
    const receipts = await Promise.all([1, 2, 3].map((n) => io.of('/orders').emit('newOrder', order(`once-${n}`))))
    assert.deepEqual(receipts.map(({ duplicate }) => duplicate), [true, true, true])
  })
  assert.deepEqual(events.map(({ data }) => data.orderId), ['o-once-1', 'o-once-2', 'o-once-3'])
  assert.equal(proxy.seen.requests.length, 6, 'what comes too fast goes in halves')
})

test('what is refused for the moment keeps its place before what was emitted with it', { timeout: 60_000 }, async (t) => {
  let refused = false
  // A server that has no room for the first group, and room again for those behind it.
  const proxy = await startProxy(instance.url, async (request, response, pass) => {
    if (refused) return pass()
    refused = true
    const [, ...behind] = Buffer.concat(await request.toArray()).toString().split('\n')
    const overloaded = { code: 'overloaded', message: 'the log has enough to do', status: 503 }
    if (behind.length === 0) return response.writeHead(503, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify(overloaded))
    const receipts = await reader.publishAll(instance.url, behind.map((line) => JSON.parse(line)))
    const lines = [{ line: 1, ...overloaded }, ...receipts.map((receipt, i) => ({ line: i + 2, status: 201, events: [receipt] }))]
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' }).end(lines.map((line) => JSON.stringify(line)).join('\n'))
  })
  t.after(() => proxy.stop())
  const orders = new Emitter({ url: proxy.url, token }).of('/orders')
  const events = await logged(() => Promise.all([1, 2, 3].map((n) => orders.emit('newOrder', order(`place-${n}`)))))
  assert.deepEqual(events.map(({ data }) => data.orderId), ['o-place-1', 'o-place-2', 'o-place-3'])
})

test('a token that is not believed fails all at once', { timeout: 60_000 }, async (t) => {
  const proxy = await startProxy(instance.url)
  t.after(() => proxy.stop())
  const orders = new Emitter({ url: proxy.url, token: 'no token' }).of('/orders')
  const outcomes = await Promise.allSettled([1, 2, 3].map((n) => orders.emit('newOrder', order(n))))
  assert.deepEqual(outcomes.map(({ reason }) => reason.code), Array(3).fill('unauthenticated'))
  assert.equal(proxy.seen.requests.length, 1)
})

test('a company that may publish little: slower, and in order', { timeout: 60_000 }, async (t) => {
  const narrow = await startInstance(postgres.dsn, 'narrow', { TAILROOM_PUBLISH_RATE_PER_COMPANY: '20' })
  t.after(() => narrow.stop())
  const orders = new Emitter({ url: narrow.url, token }).of('/orders')
  const events = await logged(async () => {
    await Promise.all(Array.from({ length: 15 }, (_, n) => orders.emit('newOrder', order(n))))
    await Promise.all(Array.from({ length: 45 }, (_, n) => orders.emit('newOrder', order(15 + n))))
  })
  assert.deepEqual(events.map(({ data }) => data.orderId), Array.from({ length: 60 }, (_, n) => `o-${n}`))
})

test('companies do not wait for each other', { timeout: 60_000 }, async (t) => {
  const narrow = await startInstance(postgres.dsn, 'crowded', { TAILROOM_PUBLISH_RATE_PER_COMPANY: '20' })
  t.after(() => narrow.stop())
  const proxy = await startProxy(narrow.url)
  t.after(() => proxy.stop())
  const orders = new Emitter({ url: proxy.url, token: mint({ companyId: '*', userRole: 'service' }) }).of('/orders')
  const emit = (companyId, count) => Promise.all(Array.from({ length: count }, (_, n) => orders.emit('newOrder', order(`${companyId}-${n}`), { companyId })))
  await emit('c1', 20) // which is all that it may at once
  let done = false
  const much = emit('c1', 100).then(() => { done = true })
  const asked = proxy.seen.requests.length
  const mixed = Array.from({ length: 10 }, (_, n) => [emit('c2', 1), emit('c3', 1)]).flat()
  await Promise.all(mixed)
  assert.ok(!done)
  assert.ok(proxy.seen.requests.length - asked <= 6, 'a group for each company')
  await much
})

test('a server that stays away: it gives up in time, with the reason', { timeout: 60_000 }, async () => {
  const io = new Emitter({ url: 'http://127.0.0.1:9', token, retryForMs: 300 })
  await assert.rejects(io.of('/orders').emit('newOrder', order('never')), { code: 'network' })
})

test('an expired token is replaced', { timeout: 60_000 }, async () => {
  const tokens = [mint({ companyId: 'c1', userRole: 'service', exp: 1 }), token]
  const io = new Emitter({ url: instance.url, token: () => tokens.shift() })
  assert.equal((await io.of('/orders').emit('newOrder', order('renewed'))).version, 1)
})

test('a token for every company names one', { timeout: 60_000 }, async () => {
  const every = { url: instance.url, token: mint({ companyId: '*', userRole: 'service' }) }
  const events = await logged(async () => {
    await new Emitter({ ...every, companyId: 'c1' }).of('/orders').emit('newOrder', order('named'))
    await new Emitter(every).of('/orders').emit('newOrder', order('each'), { companyId: 'c1' })
  })
  assert.deepEqual(events.map(({ companyId, data }) => [companyId, data.orderId]), [['c1', 'o-named'], ['c1', 'o-each']])
})
