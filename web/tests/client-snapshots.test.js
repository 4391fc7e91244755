// Snapshot, then live: what the client holds is always the fold of the log, whatever happens to the line.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { connect, memoryCursor } from '@tailroom/client'
import { WebSocket } from 'ws'
import { api } from './lib/api.js'
import { Inbox } from './lib/inbox.js'
import { startLine } from './lib/line.js'
import { startInstance, startPostgres } from './lib/process.js'
import { mint } from './lib/token.js'

const token = mint({ companyId: 'c1', branchId: 'b7', userRole: 'web' })
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

let orders = 0
const order = (status = 'pending', n = ++orders) => ({ namespace: '/orders', type: 'newOrder', data: { orderId: `s-${n}`, branchId: 'b7', status } })
const update = (n, status) => ({ namespace: '/orders', type: 'orderStatusUpdate', data: { orderId: `s-${n}`, branchId: 'b7', status } })

/** A screen as docs/state.md describes it: states first, then each event merged. */
async function screen(t, options) {
  const client = connect({ token, subscribe: [{ namespace: '/orders', snapshot: true }], WebSocket, ...options })
  t.after(() => client.close())
  const streams = new Map()
  const inbox = new Inbox()
  client.onSnapshot(({ states, first }) => {
    if (first) streams.clear()
    for (const { stream, version, state } of states) streams.set(stream, { version, state })
  })
  client.onAny(({ stream, version, data }) => {
    const { version: last = 0, state = {} } = streams.get(stream) ?? {}
    assert.equal(version, last + 1, `${stream}: no seam`)
    streams.set(stream, { version, state: { ...state, ...data } })
    inbox.add(stream)
  })
  await phase(client, 'live')
  return { client, streams, inbox }
}

/** Resolves when a screen shows a stream as it was behind an event. */
async function has({ streams, inbox }, { stream, version }) {
  while (streams.get(stream)?.version !== version) await inbox.until(inbox.received.length + 1)
}

function phase(client, name) {
  return new Promise((resolve) => client.onState((status) => { if (status.phase === name) resolve(status) }))
}

for (const transport of ['websocket', 'sse']) {
  test(`${transport}: the state first, then every event behind it, over a cut as well`, { timeout: 60_000 }, async (t) => {
    const from = orders
    await service.publishAll(one.url, Array.from({ length: 1_200 }, () => order()))
    await service.publishAll(one.url, Array.from({ length: 1_200 }, (_, i) => update(from + 1 + i, 'accepted')))
    const line = await startLine(one.url)
    t.after(() => line.stop())
    // Events come in all the time while the state is read.
    let busy = true
    const publishing = (async () => { while (busy) await service.publish(other.url, order()) })()
    const { client, streams, inbox } = await screen(t, { url: line.url, transport })
    assert.equal(client.status.transport, transport)
    line.cut()
    await phase(client, 'waiting')
    line.leadTo(other.url)
    await phase(client, 'live')
    busy = false
    await publishing
    const last = await service.publish(one.url, order('preparing'))
    await has({ streams, inbox }, last) // which is after it was received
    assert.deepEqual(streams, fold(await service.history(one.url)))
  })

  test(`${transport}: a kept cursor: the state of then, and what came since`, { timeout: 60_000 }, async (t) => {
    const cursor = memoryCursor()
    const first = await screen(t, { url: one.url, transport, cursor })
    await first.client.close()
    const [, last] = await service.publishAll(one.url, [order(), order()])
    const { streams, inbox } = await screen(t, { url: one.url, transport, cursor })
    await has({ streams, inbox }, last)
    assert.deepEqual(streams, fold(await service.history(one.url)))
  })
}

function fold(envelopes) {
  const streams = new Map()
  for (const { stream, version, data } of envelopes.map((envelope) => JSON.parse(envelope))) {
    streams.set(stream, { version, state: { ...streams.get(stream)?.state, ...data } })
  }
  return streams
}
