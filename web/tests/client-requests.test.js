// Requests and consumers in the TypeScript client, with the parties on different instances.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect } from '@tailroom/client'
import { WebSocket } from 'ws'
import { api } from './lib/api.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const web = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web', sub: 'till' })
const agent = mint({ companyId: 'c1', branchId: 'b7', userRole: 'desktop_app', sub: 'agent' })
const service = api(mint({ companyId: 'c1', userRole: 'service' }))

let postgres, one, other
before(async () => {
  postgres = await startPostgres()
  one = await startInstance(postgres.dsn, 'one')
  other = await startInstance(postgres.dsn, 'other')
})
after(async () => {
  await Promise.all([one?.stop(), other?.stop()])
  await postgres?.stop()
})

async function follow(t, options) {
  const client = connect({ subscribe: ['/printing-ws', '/orders'], WebSocket, ...options })
  t.after(() => client.close())
  await phase(client, 'live')
  return client
}

function phase(client, name) {
  return new Promise((resolve) => client.onState((status) => { if (status.phase === name) resolve(status) }))
}

/** Resolves when the server has written what the consumer acknowledged. */
async function kept(name, cursor) {
  const headers = { Authorization: `Bearer ${agent}` }
  for (;;) {
    const { consumers } = await (await fetch(`${one.url}/v1/consumers`, { headers })).json()
    if (consumers.some((consumer) => consumer.name === name && consumer.cursor === cursor)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const print = (n, more = {}) => ({ namespace: '/printing-ws', type: 'printer:test', data: { printerId: `p-${n}`, branchId: 'b7' }, ...more })

for (const transport of ['websocket', 'sse']) {
  test(`${transport}: a request is answered, also when the line is cut while it waits`, { timeout: 60_000 }, async (t) => {
    const line = await startLine(one.url)
    t.after(() => line.stop())
    const till = await follow(t, { url: line.url, token: web, transport })
    const printer = await follow(t, { url: other.url, token: agent, transport })
    const requests = []
    let letGo
    const held = new Promise((resolve) => { letGo = resolve })
    printer.on('printer:test', async (event) => {
      requests.push(event)
      if (event.data.printerId === 'p-2') {
        line.cut()
        line.leadTo(other.url)
        await phase(till, 'live')
        await held
      }
      await printer.answer(event, 'printer:test:result', { printerId: event.data.printerId, branchId: 'b7', success: true })
    })
    const first = await till.request(print(1))
    assert.deepEqual([first.type, first.data.success, first.correlationId, first.causationId],
      ['printer:test:result', true, requests[0].correlationId, requests[0].id])
    const second = till.request(print(2))
    await phase(till, 'waiting')
    letGo()
    assert.equal((await second).data.printerId, 'p-2')
    assert.equal(requests.length, 2, 'it was asked once')
  })

  test(`${transport}: no answer in time, a second answer, and giving up`, { timeout: 60_000 }, async (t) => {
    const till = await follow(t, { url: one.url, token: web, transport })
    const printer = await follow(t, { url: other.url, token: agent, transport })
    const asked = new Promise((resolve) => printer.on('printer:test', resolve))
    await assert.rejects(till.request(print(3, { timeoutMs: 1_000 })), { code: 'reply_timeout' })
    const result = { printerId: 'p-3', branchId: 'b7', success: true }
    await printer.answer(await asked, 'printer:test:result', result)
    await assert.rejects(printer.answer(await asked, 'printer:test:result', { ...result, success: false }), { code: 'already_answered' })
    await assert.rejects(till.request(print(4), { signal: AbortSignal.timeout(200) }), { code: 'aborted' })
  })
}

test('a consumer goes on where it has acknowledged, and a newer session replaces it', { timeout: 60_000 }, async (t) => {
  const options = { token: agent, consumer: 'agent-1', subscribe: ['/orders'] }
  const order = (n) => ({ namespace: '/orders', type: 'newOrder', data: { orderId: `k-${n}`, branchId: 'b7' } })
  const handled = []
  const keep = (client, until, list = handled) => new Promise((resolve) => client.on('newOrder', (event) => {
    list.push(event.data.orderId)
    if (list.length === until) resolve()
  }))
  const first = await follow(t, { url: one.url, ...options })
  const five = keep(first, 5)
  await service.publishAll(one.url, [1, 2, 3, 4, 5].map(order))
  await five
  await first.close()
  await service.publishAll(one.url, [6, 7, 8].map(order))

  // By hand: it gets all three, and is done with one of them.
  const second = connect({ url: other.url, WebSocket, ack: 'manual', ...options })
  const received = []
  let done
  await new Promise((resolve) => second.on('newOrder', (event) => {
    received.push(event.data.orderId)
    if (event.data.orderId === 'k-6') second.ack(done = event)
    if (received.length === 3) resolve()
  }))
  await second.close()
  assert.deepEqual(received, ['k-6', 'k-7', 'k-8'])
  await kept('agent-1', done.cursor) // the server writes about once a second

  const third = connect({ url: one.url, WebSocket, ...options })
  t.after(() => third.close())
  await keep(third, 7)
  assert.deepEqual(handled, [1, 2, 3, 4, 5, 7, 8].map((n) => `k-${n}`))

  const replaced = phase(third, 'closed')
  const fourth = await follow(t, { url: other.url, ...options })
  assert.equal((await replaced).error.code, 'replaced')
  assert.equal(fourth.status.phase, 'live')
})
